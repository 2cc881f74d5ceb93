"""What a run would use, before it runs."""

from __future__ import annotations

import re
import socket
import sys
from pathlib import Path

import pytest
from apache_beam.utils.subprocess_server import JavaJarServer

from duologue.errors import UserError
from duologue.pipelines import run_info as module
from duologue.pipelines.run_info import run_info

IMAGE = "an image with Duologue in it: --environment_config=IMAGE (Beam's own image has no Duologue)"


def missing(*flags: str) -> list[str]:
    return run_info(flags=flags)["missing"]


def test_one_worker_runs_in_this_process() -> None:
    about = run_info()
    assert (about["runner"], about["environment"], about["workers"]) == ("in-process", "this process", 1)
    assert about["missing"] == []
    assert about["versions"]["apache-beam"].startswith("2.")


def test_more_workers_than_cores_are_noted() -> None:
    about = run_info(workers=10_000)
    assert about["environment"].startswith("10000 processes of ")
    assert any("10000 workers share" in note for note in about["notes"])


@pytest.mark.parametrize(
    ("workers", "notes"),
    [
        (1, ["1 GPUs stay idle: give --workers 2"]),
        (2, []),
        (10_000, ["10000 workers share 2 GPUs: one process a GPU is usual"]),
    ],
)
def test_workers_are_measured_by_the_gpus_where_there_are_any(
    monkeypatch: pytest.MonkeyPatch, workers: int, notes: list[str]
) -> None:
    monkeypatch.setattr(module, "find_gpus", lambda: (2, ""))
    monkeypatch.setattr(module, "_described", lambda count: [{"name": "H100", "memory_gb": 80.0}] * count)
    assert run_info(workers)["notes"] == notes


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


def test_addresses_that_do_not_answer_are_missing() -> None:
    flags = ["--environment_type=EXTERNAL", "--environment_config=127.0.0.1:1", "--job_endpoint=127.0.0.1:1"]
    assert missing("--runner=PortableRunner", *flags) == [
        "no job server answers at 127.0.0.1:1 (--job_endpoint)",
        "no worker pool answers at 127.0.0.1:1 (--environment_config)",
    ]


def test_a_portable_run_lacks_a_job_server_and_an_image() -> None:
    assert missing("--runner=PortableRunner") == ["the job server's address: --job_endpoint=HOST:PORT", IMAGE]
    assert missing("--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK") == []
    assert missing("--runner=PortableRunner", "--job_endpoint=embed", "--environment_config=mine:1") == []


def test_a_flink_of_this_machine_needs_java_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "server.jar").touch()
    jar = f"--flink_job_server_jar={tmp_path / 'server.jar'}"
    monkeypatch.setenv("PATH", str(tmp_path))
    flags = ("--runner=FlinkRunner", "--environment_type=LOOPBACK", jar)
    assert missing(*flags) == ["a Java runtime, which Beam's job server runs on"]
    (tmp_path / "java").touch(mode=0o755)
    assert missing(*flags) == []
    assert run_info(flags=flags)["workers"] is None


@pytest.mark.parametrize("engine", ["Flink", "Spark"])
def test_a_job_server_that_beam_will_download_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setattr(JavaJarServer, "JAR_CACHE", str(tmp_path))
    flags = (f"--runner={engine}Runner", "--environment_type=LOOPBACK")
    loopback, download = run_info(flags=flags)["notes"]
    assert loopback.startswith("LOOPBACK workers run in this process")
    assert f"--{engine.lower()}_job_server_jar=PATH" in download
    name = re.search(rf"beam-runners-{engine.lower()}-\S+\.jar", download)
    assert name
    (tmp_path / name[0]).touch()
    assert run_info(flags=flags)["notes"] == [loopback]


def test_what_a_dataflow_run_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ("--runner=DataflowRunner", "--region=europe-west4", "--num_workers=5")
    cloud = 'Beam\'s Google Cloud part: pip install "apache-beam[gcp]"'
    lacks = [cloud, "--project", "--temp_location", "an image with Duologue in it: --sdk_container_image=IMAGE"]
    monkeypatch.setitem(sys.modules, "google.cloud", None)
    monkeypatch.delitem(sys.modules, "google.cloud.storage", raising=False)
    about = run_info(flags=flags)
    assert about["missing"] == lacks
    assert (about["workers"], about["environment"]) == (5, "containers of the service")
    # Any module that is there stands for the one that would be.
    monkeypatch.setitem(sys.modules, "google.cloud.storage", sys)
    assert missing(*flags) == lacks[1:]


def test_the_image_of_docker_workers_is_asked_for() -> None:
    assert IMAGE in missing("--runner=SparkRunner")


def test_an_unknown_flag_is_refused() -> None:
    with pytest.raises(UserError, match="the nearest is --flink_master"):
        run_info(flags=["--flink_mastr=x"])
