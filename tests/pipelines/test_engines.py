"""Runners by Beam's own flags: the submission protocol, and what goes wrong before anything runs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from uuid import uuid4

import apache_beam as beam
import pytest
import torch
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.dataflow.dataflow_runner import DataflowRuntimeException
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState
from threadpoolctl import threadpool_info

from duologue.errors import UserError
from duologue.pipelines.engine import for_each
from duologue.pipelines.flags import check_flags
from duologue.pipelines.partitions import RunOptions
from duologue.pipelines.refusals import refusal_of
from duologue.pipelines.tokenize import tokenize
from tests.pipelines.comparing import contents

DATAFLOW = ["--runner=DataflowRunner", "--project=a-project", "--region=r1", "--temp_location=gs://bucket/tmp"]


class Forgetful(PipelineRunner):
    """Runs, and then cannot say what it measured, as where the rights to ask are missing."""

    def run_pipeline(self, pipeline: beam.Pipeline, options: PipelineOptions) -> PipelineResult:
        FnApiRunner().run_pipeline(pipeline, options)
        return PipelineResult(PipelineState.DONE)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            continue
    pytest.fail("it did not start")


@pytest.fixture(scope="module")
def far() -> Iterator[list[str]]:
    """Flags for Beam's own job service and a worker pool, both in processes of their own."""
    job, pool = free_port(), free_port()
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    commands = {
        job: [sys.executable, "-m", "apache_beam.runners.portability.local_job_service_main", f"--port={job}"],
        pool: [sys.executable, "-m", "duologue.pipelines.worker_pool", f"--service_port={pool}"],
    }
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [subprocess.Popen(command, env=environment, **quiet) for command in commands.values()]
    try:
        for port, process in zip(commands, processes, strict=True):
            wait_for(port, process)
        yield [
            "--runner=PortableRunner",
            f"--job_endpoint=127.0.0.1:{job}",
            "--environment_type=EXTERNAL",
            f"--environment_config=127.0.0.1:{pool}",
        ]
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def test_a_pipeline_makes_the_same_bytes_through_a_job_server_and_is_measured(
    tmp_path: Path, recordings: Path, far: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    tokenize(recordings, tmp_path / "here", rows_per_shard=2, thresholds=None)
    tokenize(recordings, tmp_path / "there", rows_per_shard=2, thresholds=None, options=RunOptions(flags=far))
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    here, there = [line for line in capsys.readouterr().err.splitlines() if "partitions of" in line]
    # The times differ, the counts do not.
    assert there.split("): ")[1] == here.split("): ")[1] != ""


def test_workers_with_another_working_directory_write_where_the_launcher_meant(
    tmp_path: Path, recordings: Path, far: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    card = tokenize(recordings, Path("units"), options=RunOptions(flags=far))
    assert len(contents(tmp_path / "units")) > len(card.shards) > 0


def number(item: int) -> dict[str, int]:
    return {"inputs": item, "outputs": 1}


def stumble(item: int) -> None:
    raise UserError("this cannot be had", where=f"item {item}", hint="Take another")


def threads(_: int) -> dict[str, int]:
    libraries = [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]
    return {"most": max(libraries), "libraries": len(libraries)}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_computes_with_one_thread(workers: int) -> None:
    # One item: what is counted would be summed.
    counts = for_each(threads, [1], workers=workers).counts
    assert counts["most"] == 1
    assert counts["libraries"] >= 1


@pytest.mark.parametrize("workers", [1, 2])
def test_counts_are_summed_over_workers(workers: int) -> None:
    measured = for_each(number, [1, 2, 3, 4], workers=workers)
    assert (measured.items, measured.counts) == (4, {"inputs": 10, "outputs": 4})


BEGUN, ENDED, SECOND_BEGAN = list[int](), list[int](), threading.Event()


@pytest.fixture
def fresh() -> None:
    BEGUN.clear()
    ENDED.clear()
    SECOND_BEGAN.clear()


def in_two_steps(item: int) -> Generator[None, None, dict[str, int]]:
    BEGUN.append(item)
    if len(BEGUN) == 2:
        SECOND_BEGAN.set()
    yield
    assert SECOND_BEGAN.wait(60)
    ENDED.append(item)
    return {"ended": 1}


@pytest.mark.usefixtures("fresh")
def test_what_is_left_of_an_item_is_done_while_the_next_one_is_begun() -> None:
    measured = for_each(in_two_steps, [1, 2, 3])
    assert ENDED == BEGUN
    assert (measured.items, measured.counts) == (3, {"ended": 3})


def ended_late(directory: str) -> Generator[None, None, dict[str, int]]:
    yield
    time.sleep(0.5)
    Path(directory, str(uuid4())).touch()
    return {}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_has_ended_when_nothing_is_left_of_any_item(tmp_path: Path, workers: int) -> None:
    assert for_each(ended_late, [str(tmp_path)] * 3, workers=workers).items == 3
    assert len(list(tmp_path.iterdir())) == 3


def stumbles_late(item: int) -> Generator[None, None, dict[str, int]]:
    yield
    stumble(item)
    return {}


@pytest.mark.parametrize("items", [[7], [7, 7]])
def test_what_goes_wrong_in_what_was_left_comes_back_as_one_message(items: list[int]) -> None:
    with pytest.raises(UserError) as caught:
        for_each(stumbles_late, items)
    assert str(caught.value) == "this cannot be had (item 7). Take another"


def finds_no_memory(_: int) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_gpu_refuses_comes_back_as_one_message(workers: int) -> None:
    with pytest.raises(UserError, match=r"the GPU refused \(CUDA out of memory.*CUDA_VISIBLE_DEVICES"):
        for_each(finds_no_memory, [1, 2], workers=workers)


def stumbles_or_is_closed(item: int) -> Generator[None, None, dict[str, int]]:
    BEGUN.append(item)
    try:
        yield
        stumble(item)
        return {}
    finally:
        ENDED.append(item)


@pytest.mark.usefixtures("fresh")
def test_an_item_that_was_begun_is_closed_where_the_one_before_it_fails() -> None:
    with pytest.raises(UserError, match="this cannot be had"):
        for_each(stumbles_or_is_closed, [1, 2])
    assert len(BEGUN) == 2
    assert ENDED == BEGUN


def ends_or_stumbles(item: int) -> Generator[None, None, dict[str, int]]:
    BEGUN.append(item)
    if len(BEGUN) == 2:
        stumble(item)
    yield
    time.sleep(0.2)
    ENDED.append(item)
    return {}


@pytest.mark.usefixtures("fresh")
def test_what_is_left_of_an_item_is_done_where_the_next_one_fails() -> None:
    with pytest.raises(UserError, match="this cannot be had"):
        for_each(ends_or_stumbles, [1, 2])
    assert BEGUN[:1] == ENDED


def test_a_run_whose_measures_cannot_be_had_is_finished_all_the_same(
    tmp_path: Path, recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = RunOptions(flags=[f"--runner={__name__}.Forgetful"])
    card = tokenize(recordings, tmp_path / "units", options=options)
    assert card.totals["samples"] > 0
    assert "the engine does not say what it measured (NotImplementedError)" in capsys.readouterr().err


def test_what_dataflow_raises_is_one_message() -> None:
    failed = DataflowRuntimeException(
        "Dataflow pipeline failed. State: FAILED, Error:\nWorkers ran out of memory", None
    )
    refusal = refusal_of(failed, "DataflowRunner", 1)
    assert refusal is not None and "gave up: Dataflow pipeline failed. State: FAILED" in str(refusal)
    assert "out of memory" in str(refusal)


def test_what_is_wrong_comes_back_through_a_job_server_as_one_message(far: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        for_each(stumble, [7], flags=far)
    assert str(caught.value) == "this cannot be had (item 7). Take another"


def test_an_unknown_flag_is_refused_by_name_through_a_job_server(far: list[str]) -> None:
    with pytest.raises(UserError, match=r"--paralel is no flag .* the nearest is --parallelism"):
        for_each(number, [1], flags=[*far, "--paralel=2"])


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (["--direct_num_worker=2"], "--direct_num_worker is no flag .* the nearest is --direct_num_workers"),
        (["--qqqqqqqqqqqqqqq"], "--qqqqqqqqqqqqqqq is no flag of Beam or of the runner "),
        (["stray"], "stray is no flag"),
        (["--parallelism=many"], "--parallelism: invalid int value: 'many'"),
        (["--runner"], "--runner: expected one argument"),
        (["--runner=FlonkRunner"], "Unexpected pipeline runner: FlonkRunner"),
        (["--runner=PortableRunner"], "You must specify a --job_endpoint"),
        (["--runner=FlinkRunner", "--flink_job_server_jar=/none/such.jar"], "the job server jar is not there"),
        (["--runner=PortableRunner", "--job_endpoint=127.0.0.1:1", "--job_server_timeout=1"], "does not answer"),
        (DATAFLOW, r"Dataflow runner not available, please install apache_beam\[gcp\] .*Install it where"),
    ],
)
def test_a_wrong_flag_ends_in_one_message(flags: list[str], what: str) -> None:
    with pytest.raises(UserError, match=what):
        for_each(number, [1], flags=flags)


def test_a_jar_that_cannot_be_downloaded_ends_in_one_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from apache_beam.utils.subprocess_server import JavaJarServer

    # Nobody listens there: what a machine without a network sees, at once.
    monkeypatch.setattr(JavaJarServer, "MAVEN_CENTRAL_REPOSITORY", "http://127.0.0.1:1")
    monkeypatch.setattr(JavaJarServer, "GOOGLE_MAVEN_MIRROR", "http://127.0.0.1:1")
    monkeypatch.setattr(JavaJarServer, "JAR_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"cannot be had.*--flink_job_server_jar=PATH"):
        for_each(number, [1], flags=["--runner=FlinkRunner"])


def test_flags_are_checked_where_all_is_done() -> None:
    with pytest.raises(UserError, match="--worker_harness is no flag"):
        for_each(number, [], flags=["--worker_harness=2"])


def test_what_only_a_job_server_knows_is_left_to_it() -> None:
    check_flags(["--checkpointing_interval=5", "--parallelism", "2"])
    check_flags(["--checkpointing_interval=5"], ["checkpointing_interval", "parallelism"])
    with pytest.raises(UserError):
        check_flags(["--checkpointing_interval=5"], ["parallelism"])
