import builtins
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from duologue.errors import UserError
from duologue.formats.fingerprint import fingerprint
from duologue.formats.metrics import METRICS, VALID, read_lines
from duologue.train.metrics import MetricsLog, memory_gb, speed

LOSSES = {"loss": 2.0, "loss_text": None, "loss_units": 3.0, "loss_tags": 1.0}
RESULT: dict[str, Any] = {
    **LOSSES,
    "targets": 100,
    "sets": {"calls": {"stage": 3, **LOSSES}, "tasks": {"stage": 2, **LOSSES, "loss": 1.5}},
    "sources": {"fisher": LOSSES},
    "sample_valid": 0.75,
    "sample_tokens_per_s": 27.5,
    "sample_problem": "two [S1]",
    "sample": "[S0]",
}

ABOUT = {"name": "toy", "recipe": {"clip": 1.0}}


def line(step: int, **changes: Any) -> dict[str, Any]:
    plain = {
        "step": step,
        "stage": 2,
        **LOSSES,
        "tokens": 100 * step,
        "tokens_per_s": 10.0,
        "data_share": 0.1,
        "memory_gb": 1.0,
    }
    return {**plain, **changes}


def write(run: Path, steps: range, valid: tuple[int, ...] = (), step: int = 0, boards: Any = ()) -> None:
    run.mkdir(exist_ok=True)
    (run / "run.json").write_text(json.dumps({**ABOUT, "fingerprint": fingerprint(ABOUT)}))
    with MetricsLog(run, step, 10, 4, boards) as log:
        for number in steps:
            log.add(line(number), 2.0)
            if number in valid:
                log.add_validation(number, RESULT)
        log.sync()


def test_steps_and_validations_stand_in_files_of_their_own(tmp_path: Path) -> None:
    write(tmp_path / "run", range(1, 5), valid=(2, 4))
    assert read_lines(tmp_path / "run") == [line(step) for step in range(1, 5)]
    assert read_lines(tmp_path / "run", VALID) == [{"step": 2, **RESULT}, {"step": 4, **RESULT}]


def test_a_run_that_goes_on_keeps_the_lines_of_the_steps_it_has_taken(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write(run, range(1, 6), valid=(2, 5))
    with (run / VALID).open("ab") as file:
        file.write(b'{"step": 6, "lo')
    write(run, range(4, 6), valid=(5,), step=3)
    assert [entry["step"] for entry in read_lines(run)] == [1, 2, 3, 4, 5]
    assert [entry["step"] for entry in read_lines(run, VALID)] == [2, 5]


def test_without_validation_there_is_no_file_of_it_and_none_is_left_over(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write(run, range(1, 3))
    assert not (run / VALID).exists()
    write(run, range(1, 6), valid=(5,))
    write(run, range(3, 5), step=2)
    assert not (run / VALID).exists()
    assert sorted(path.name for path in run.iterdir()) == [METRICS, "run.json"]


def test_the_console_has_lines_of_steps_and_of_validations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "run", range(1, 6), valid=(4,))
    first, fourth, validation = capsys.readouterr().err.splitlines()
    assert first.startswith("stage 2, step 1 of 10: loss 2.0000 (units 3.000, tags 1.000), 10 tokens/s, data 10.0%")
    assert fourth.endswith("1.0 GB, 12 s left")
    assert validation == (
        "validation, step 4 of 10: loss 2.0000 (units 3.000, tags 1.000); calls 2.000, tasks 1.500; "
        "75% of the sample well-formed; 27.5 tokens a second of dialogue"
    )


def test_a_validation_may_have_sources_without_a_target_or_none_at_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = dict.fromkeys(LOSSES)
    sources = {"fisher": LOSSES, "tasks": nothing, "calls": LOSSES}
    with MetricsLog(tmp_path, 0, 4, 4) as log:
        log.add_validation(2, {**RESULT, "sets": {"calls": LOSSES}, "sources": sources, "sample_valid": None})
        log.add_validation(4, {**nothing, "sets": {"calls": nothing}, "sources": {"fisher": nothing}})
    first, second = capsys.readouterr().err.splitlines()
    assert "tags 1.000); fisher 2.000, calls 2.000; 27.5 tokens" in first
    assert second == "validation, step 4 of 4: no targets"


def test_a_gpus_share_and_mfu_stand_in_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with MetricsLog(tmp_path, 0, 1, 1) as log:
        log.add(line(1, tokens_per_s=8000.0, tokens_per_s_per_gpu=1000.0, mfu=0.523), 1.0)
        # Of a GPU whose peak is not known.
        log.add(line(1, tokens_per_s=8000.0, tokens_per_s_per_gpu=1000.0, mfu=None), 1.0)
    first, second = capsys.readouterr().err.splitlines()
    assert "8,000 tokens/s (1,000 a GPU, 52.3% MFU), data" in first
    assert "8,000 tokens/s (1,000 a GPU), data" in second


def test_the_memory_of_a_cpu_is_the_most_that_the_system_has_seen_resident() -> None:
    (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    assert memory_gb(torch.device("cpu")) == pytest.approx(int(peak.split()[1]) * 1024 / 1e9, rel=0.05)


def test_on_a_cpu_there_is_no_mfu() -> None:
    assert speed(100, 2.0, 1e9, 2, torch.device("cpu")) == {
        "tokens_per_s": 50.0,
        "tokens_per_s_per_gpu": None,
        "mfu": None,
    }


def test_mfu_is_the_share_of_one_gpus_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100-SXM4-80GB")
    measured = speed(1_000_000, 2.0, 312e6, 4, torch.device("cuda", 0))
    assert measured == {"tokens_per_s": 5e5, "tokens_per_s_per_gpu": 1.25e5, "mfu": pytest.approx(0.125)}
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA GeForce RTX 3090")
    assert speed(1, 1.0, 1.0, 1, torch.device("cuda", 0))["mfu"] is None


def test_tensorboard_gets_the_numbers_where_it_is_asked_for(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write(run, range(1, 4), valid=(2,), boards=("tensorboard",))
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3]
    assert [event.value for event in events.Scalars("valid/sets/tasks/loss")] == [1.5]
    assert "valid/sample_valid" in events.Tags()["scalars"]
    assert not {"stage", "valid/sample", "loss_text"} & set(events.Tags()["scalars"])


@pytest.mark.parametrize("step", [0, 2])
def test_tensorboard_shows_each_step_once_when_a_killed_run_goes_on(tmp_path: Path, step: int) -> None:
    run = tmp_path / "run"
    write(run, range(1, 4), boards=("tensorboard",))
    write(run, range(step + 1, 6), step=step, boards=("tensorboard",))
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4, 5]


def test_weights_and_biases_keeps_a_run_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = tmp_path / "run"
    write(run, range(1, 3), valid=(2,), boards=("wandb",))
    (kept,) = (run / "wandb").glob("offline-run-*/run-*.wandb")
    # A process of its own writes it, and may take a moment more.
    until = time.monotonic() + 30
    while b"valid/sets/tasks/loss" not in kept.read_bytes() and time.monotonic() < until:
        time.sleep(0.1)
    assert b"loss_units" in kept.read_bytes() and b"valid/sets/tasks/loss" in kept.read_bytes()
    assert kept.stem == "run-" + fingerprint(ABOUT)[:16]
    assert len(read_lines(run)) == 2


def test_without_wandb_the_flag_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "wandb":
            raise ImportError(name)
        return plain(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"not installed .*pip install 'duologue\[wandb\]'"):
        write(tmp_path / "run", range(1, 2), boards=("wandb",))
    assert not (tmp_path / "run" / METRICS).exists()
