"""What a run would use, looked at before it runs: engine, workers, GPUs, versions, and what is missing."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import socket
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    SparkRunnerOptions,
    WorkerOptions,
)
from apache_beam.utils.subprocess_server import JavaJarServer

from duologue import __version__
from duologue.gpus import find_gpus
from duologue.pipelines.flags import check_flags, runner_of

_SHARED = "workers read and write them under the same names: in an object store, or on a file system that all share"
_PATIENCE_S = 3.0


def run_info(workers: int = 1, flags: Sequence[str] = ()) -> dict[str, Any]:
    """Say what a run with these workers and flags would use. Starts nothing; asks the named addresses if they answer.

    Args:
        workers: processes on this machine; of no account with a `--runner` among the flags.
        flags: Beam's own.

    Returns:
        `runner`, `environment` (how Python workers come about), `workers` (None: the engine's to say), `cores` and
        `gpus` of this machine, `files` (where they must be), `versions`, `missing` (what stands in the way),
        `notes`.

    Raises:
        UserError: a flag is wrong.
    """
    check_flags(flags)
    runner = runner_of(flags)
    if runner is None:
        check_flags(flags, ())
    options = PipelineOptions(list(flags))
    portable = options.view_as(PortableOptions)
    count, trouble = find_gpus()
    about: dict[str, Any] = {
        "runner": runner or "in-process",
        "environment": _environment(runner, workers, portable),
        "workers": workers if runner is None else _asked_workers(runner, options),
        "cores": len(os.sched_getaffinity(0)),
        "gpus": _described(count),
        "files": "this machine's, or an object store's" if runner is None else _SHARED,
        "versions": {
            "duologue": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("apache-beam", "torch", "pyarrow")},
        },
        "missing": [] if runner is None else list(_missing(runner, options)),
    }
    if runner is None:
        notes = list(_notes_here(workers, about["cores"], count))
    else:
        notes = list(_notes_elsewhere(runner, options))
    if trouble:
        notes.append(trouble)
    return {**about, "notes": notes}


def _described(count: int) -> list[dict[str, Any]]:
    import torch

    found = [torch.cuda.get_device_properties(index) for index in range(count)]
    return [{"name": gpu.name, "memory_gb": round(gpu.total_memory / 1e9, 1)} for gpu in found]


def _is(runner: str, name: str) -> bool:
    return runner.rsplit(".", 1)[-1].lower().removesuffix("runner") == name


def _environment(runner: str | None, workers: int, portable: PortableOptions) -> str:
    if runner is None:
        return "this process" if workers == 1 else f"{workers} processes of {sys.executable}"
    if _is(runner, "dataflow"):
        return "containers of the service"
    kind = (portable.environment_type or "DOCKER").upper()
    return f"{kind} {portable.environment_config or ''}".strip()


def _asked_workers(runner: str, options: PipelineOptions) -> int | None:
    if _is(runner, "flink"):
        parallelism = options.view_as(FlinkRunnerOptions).parallelism
        return parallelism if parallelism > 0 else None
    return options.view_as(WorkerOptions).num_workers if _is(runner, "dataflow") else None


def _missing(runner: str, options: PipelineOptions) -> Iterator[str]:
    if _is(runner, "dataflow"):
        yield from _missing_for_dataflow(options)
        return
    portable = options.view_as(PortableOptions)
    endpoint = portable.job_endpoint
    if endpoint and endpoint != "embed" and not _answers(endpoint):
        yield f"no job server answers at {endpoint} (--job_endpoint)"
    if not endpoint and _is(runner, "portable"):
        yield "the job server's address: --job_endpoint=HOST:PORT"
    if not endpoint and (_is(runner, "flink") or _is(runner, "spark")):
        yield from _missing_for_job_server(runner, options)
    if _is(runner, "flink"):
        master = options.view_as(FlinkRunnerOptions).flink_master
        if not master.startswith("[") and not _answers(master):
            yield f"no Flink cluster answers at {master} (--flink_master)"
    kind = (portable.environment_type or "DOCKER").upper()
    if kind == "EXTERNAL":
        pool = portable.environment_config
        if not pool:
            yield "the worker pool's address: --environment_config=HOST:PORT"
        elif not _answers(pool):
            yield f"no worker pool answers at {pool} (--environment_config)"
    if kind == "DOCKER" and not portable.environment_config:
        yield "an image with Duologue in it: --environment_config=IMAGE (Beam's own image has no Duologue)"


def _missing_for_job_server(runner: str, options: PipelineOptions) -> Iterator[str]:
    if shutil.which("java") is None:
        yield "a Java runtime, which Beam's job server runs on"
    flag, jar, _ = _job_server_jar(runner, options)
    if jar and not urlparse(jar).scheme and not Path(jar).is_file():
        yield f"the job server jar: there is no {jar} ({flag})"


def _job_server_jar(runner: str, options: PipelineOptions) -> tuple[str, str | None, str]:
    """Return the flag that names the jar, what it says, and what the jar is called that Beam would download."""
    if _is(runner, "flink"):
        flink = options.view_as(FlinkRunnerOptions)
        flag, jar, engine = "--flink_job_server_jar", flink.flink_job_server_jar, f"flink-{flink.flink_version}"
    else:
        spark = options.view_as(SparkRunnerOptions)
        flag, jar, engine = "--spark_job_server_jar", spark.spark_job_server_jar, f"spark-{spark.spark_version}"
    return flag, jar, f"beam-runners-{engine}-job-server-{version('apache-beam')}.jar"


def _missing_for_dataflow(options: PipelineOptions) -> Iterator[str]:
    if not _installed("google.cloud.storage"):
        yield 'Beam\'s Google Cloud part: pip install "apache-beam[gcp]"'
    cloud = options.view_as(GoogleCloudOptions)
    for name in ("project", "region", "temp_location"):
        if not getattr(cloud, name):
            yield f"--{name}"
    if not options.view_as(WorkerOptions).sdk_container_image:
        yield "an image with Duologue in it: --sdk_container_image=IMAGE"


def _notes_here(workers: int, cores: int, gpus: int) -> Iterator[str]:
    if gpus and workers > gpus:
        yield f"{workers} workers share {gpus} GPUs: one process a GPU is usual"
    if workers < gpus:
        yield f"{gpus - workers} GPUs stay idle: give --workers {gpus}"
    if not gpus and workers > cores:
        yield f"{workers} workers share {cores} cores"


def _notes_elsewhere(runner: str, options: PipelineOptions) -> Iterator[str]:
    portable = options.view_as(PortableOptions)
    if (portable.environment_type or "").upper() == "LOOPBACK":
        yield "LOOPBACK workers run in this process: one machine's worth, whatever the size of the cluster"
    if not portable.job_endpoint and (_is(runner, "flink") or _is(runner, "spark")):
        flag, jar, name = _job_server_jar(runner, options)
        if not jar and not (Path(JavaJarServer.JAR_CACHE) / name).is_file():
            yield f"Beam will download {name} from Maven Central; without a network name the file by {flag}=PATH"


def _answers(address: str) -> bool:
    parts = urlparse(address if "://" in address else f"//{address}")
    try:
        socket.create_connection((parts.hostname or "", parts.port or 80), _PATIENCE_S).close()
    except (OSError, ValueError):
        return False
    return True


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        # A package above it is missing already.
        return False
