"""What a run would use, before it runs."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from duologue.errors import UserError
from duologue.pipelines.run_info import run_info


def test_one_worker_runs_in_this_process() -> None:
    about = run_info()
    assert (about["runner"], about["environment"], about["workers"]) == ("in-process", "this process", 1)
    assert about["missing"] == []
    assert about["versions"]["apache-beam"].startswith("2.")


def test_more_workers_than_cores_are_noted() -> None:
    about = run_info(workers=10_000)
    assert about["environment"].startswith("10000 processes of ")
    assert any("10000 workers share" in note for note in about["notes"])


def test_what_a_flink_run_lacks_is_named(tmp_path: Path) -> None:
    jar = f"--flink_job_server_jar={tmp_path / 'none.jar'}"
    flags = ["--runner=FlinkRunner", "--flink_master=127.0.0.1:1", "--environment_type=EXTERNAL", "--parallelism=4"]
    about = run_info(flags=[*flags, jar])
    missing = "\n".join(about["missing"])
    assert "none.jar" in missing
    assert "no Flink cluster answers at 127.0.0.1:1" in missing
    assert "--environment_config=HOST:PORT" in missing
    assert (about["workers"], about["environment"]) == (4, "EXTERNAL")
    assert "under the same names" in about["files"]


def test_addresses_that_answer_are_not_missing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        flags = ["--environment_type=EXTERNAL", f"--environment_config={address}", f"--job_endpoint={address}"]
        assert run_info(flags=["--runner=PortableRunner", *flags])["missing"] == []
        about = run_info(flags=["--runner=FlinkRunner", f"--flink_master=http://{address}", *flags])
        assert about["missing"] == []


def test_what_a_dataflow_run_lacks_is_named() -> None:
    missing = run_info(flags=["--runner=DataflowRunner", "--region=europe-west4"])["missing"]
    assert "--project" in missing and "--temp_location" in missing
    assert "--region" not in missing


def test_the_image_of_docker_workers_is_asked_for() -> None:
    missing = run_info(flags=["--runner=SparkRunner"])["missing"]
    assert any("--environment_config=IMAGE" in what for what in missing)


def test_an_unknown_flag_is_refused() -> None:
    with pytest.raises(UserError, match="the nearest is --flink_master"):
        run_info(flags=["--flink_mastr=x"])
