import json
import struct
from pathlib import Path

import pytest

from duologue.errors import UserError
from duologue.evaluate.curve import write_curve
from tests.evaluate.making import training_run, unit_set

VALIDATION = {
    "loss": 5.8,
    "loss_text": None,
    "loss_units": 6.1,
    "loss_tags": 0.4,
    "sample_valid": 0.9,
    "sample_tokens_per_s": 27.3,
}


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Runs of all stages; the last one has been validated twice and is being written to."""
    made = [tmp_path / name for name in ("one", "two", "three")]
    for stage, run in enumerate(made, start=1):
        training_run(run, stage, "0" * 64, steps=20 * stage)
    with (made[2] / "valid.jsonl").open("w") as file:
        for step in (30, 60):
            file.write(json.dumps({"step": step, **VALIDATION}) + "\n")
        file.write('{"step": 61, "lo')
    with (made[2] / "metrics.jsonl").open("a") as file:
        file.write('{"step": 61, "lo')
    return made


def test_the_page_shows_every_run_and_stands_alone(runs: list[Path], tmp_path: Path) -> None:
    rows = write_curve(runs, tmp_path / "curve.html")
    page = (tmp_path / "curve.html").read_text()
    assert [row["name"] for row in rows] == ["one", "two", "three"]
    for text in (
        "one (stage 1)",
        "three (stage 3)",
        "Loss by tokens",
        "Learning rate",
        "circles: validation",
        "27.3",
    ):
        assert text in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert str(tmp_path) not in page


def test_the_last_numbers_are_returned(runs: list[Path], tmp_path: Path) -> None:
    first, _, last = write_curve(runs[::-1], tmp_path / "curve.html")
    assert (first["stage"], first["step"], first["loss"], first["valid_loss"]) == (1, 20, 5.0, None)
    assert (last["step"], last["valid_step"], last["valid_loss"]) == (60, 60, 5.8)
    assert (last["valid_sample_valid"], last["valid_sample_tokens_per_s"]) == (0.9, 27.3)


def test_the_same_runs_give_the_same_bytes(runs: list[Path], tmp_path: Path) -> None:
    write_curve(runs, tmp_path / "one.html")
    write_curve(runs[::-1], tmp_path / "other.html")
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "other.html").read_bytes()


def test_a_picture_is_a_png_of_some_size(runs: list[Path], tmp_path: Path) -> None:
    write_curve(runs, tmp_path / "deep" / "curve.png")
    data = (tmp_path / "deep" / "curve.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", data[16:24])
    assert width > 1000 and height > 1000


def test_runs_that_have_not_begun_are_left_out(runs: list[Path], tmp_path: Path) -> None:
    (runs[0] / "metrics.jsonl").write_text("")
    assert [row["name"] for row in write_curve(runs, tmp_path / "curve.html")] == ["two", "three"]
    with pytest.raises(UserError, match="no run has taken a step"):
        write_curve(runs[:1], tmp_path / "curve.html")


def test_what_is_no_run_and_no_curve_is_refused(runs: list[Path], tmp_path: Path) -> None:
    unit_set(tmp_path / "units", [])
    with pytest.raises(UserError, match="this is no run"):
        write_curve([runs[0], tmp_path / "units"], tmp_path / "curve.html")
    with pytest.raises(UserError, match=r"\.html or \.png, not '\.pdf'"):
        write_curve(runs, tmp_path / "curve.pdf")
    (runs[1] / "valid.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="damaged") as caught:
        write_curve(runs, tmp_path / "curve.html")
    assert str(caught.value.where).endswith("valid.jsonl")
    assert not (tmp_path / "curve.html").exists()
