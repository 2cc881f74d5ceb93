"""A real Flink cluster on loopback for the checks: job manager, task manager, Beam's job server and worker pool.

`python scripts/flink_cluster.py fetch DIR` puts Flink and the job server there: once, over the network, with Maven.
`python scripts/flink_cluster.py run DIR` starts all of it, prints Beam's flags for it as a line of JSON, and stops it
when it is told to end (SIGTERM, Ctrl-C) or the process that started it is gone. A task manager or a worker pool that
dies is started again, as a cluster's owner would see to it; Flink then runs its tasks again. Needs Java 11 or 17.
"""

from __future__ import annotations

import ctypes
import json
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

FLINK = "apache-flink-libraries==1.19.3"
SLOTS = 2
ATTEMPTS = 5
_PATIENCE_S = 180
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_OPEN = [
    f"--add-opens=java.base/{name}=ALL-UNNAMED"
    for name in ("java.lang", "java.util", "java.net", "java.nio", "java.io")
]
# What Flink's own start scripts would work out; together about a gigabyte.
_MEMORY = {
    "framework.heap.size": "128m",
    "framework.off-heap.size": "128m",
    "task.heap.size": "384m",
    "task.off-heap.size": "0m",
    "managed.size": "128m",
    "network.min": "64m",
    "network.max": "64m",
    "jvm-metaspace.size": "256m",
    "jvm-overhead.min": "192m",
    "jvm-overhead.max": "192m",
}
_LOG = """rootLogger.level = INFO
rootLogger.appenderRef.console.ref = console
appender.console.name = console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %p %c - %m%n
"""


def fetch(directory: Path) -> None:
    """Download what a cluster needs, unless it is there: about 400 MB."""
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / "flink").is_dir():
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, FLINK]
            subprocess.run(pip, check=True)
            with tarfile.open(next(Path(scratch).glob("*.tar.gz"))) as archive:
                archive.extractall(scratch, filter="data")
            next(Path(scratch).glob("*/deps/lib")).rename(directory / "flink")
    if not (directory / "job-server").is_dir():
        pom, made = Path(__file__).with_name("flink_job_server.xml"), directory / "job-server.tmp"
        shutil.rmtree(made, ignore_errors=True)
        maven = ["mvn", "--batch-mode", "--quiet", "--file", str(pom), "dependency:copy-dependencies"]
        subprocess.run([*maven, "-DincludeScope=runtime", f"-DoutputDirectory={made.absolute()}"], check=True)
        made.rename(directory / "job-server")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_for(
    what: str, ready: Callable[[], bool], processes: dict[str, subprocess.Popen[bytes]], logs: Path
) -> None:
    until = time.monotonic() + _PATIENCE_S
    while not ready():
        dead = [name for name, process in processes.items() if process.poll() is not None]
        if dead or time.monotonic() > until:
            name = dead[0] if dead else what
            log = logs / f"{name}.log"
            sys.exit(f"{name} did not start:\n{log.read_text()[-3000:] if log.exists() else ''}")
        time.sleep(0.3)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _slots(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/overview", timeout=2) as reply:
            return int(json.load(reply)["slots-available"])
    except (OSError, urllib.error.URLError, ValueError):
        return 0


def run(directory: Path) -> None:
    """Start a cluster, say how to reach it, and stop it when told to."""
    rest, rpc, job, pool = (_free_port() for _ in range(4))
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flink-")))
        settings = {
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.rpc.port": rpc,
            "jobmanager.bind-host": "127.0.0.1",
            "jobmanager.memory.process.size": "1024m",
            "rest.address": "127.0.0.1",
            "rest.bind-address": "127.0.0.1",
            "rest.port": rest,
            "taskmanager.host": "127.0.0.1",
            "taskmanager.bind-host": "127.0.0.1",
            "taskmanager.numberOfTaskSlots": SLOTS,
            "taskmanager.cpu.cores": SLOTS,
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": ATTEMPTS,
            "restart-strategy.fixed-delay.delay": "1 s",
            # A task manager that is gone is missed after so many milliseconds.
            "heartbeat.interval": 1000,
            "heartbeat.timeout": 20000,
            "io.tmp.dirs": scratch,
            "blob.storage.directory": scratch,
            **{f"taskmanager.memory.{name}": size for name, size in _MEMORY.items()},
        }
        lines = "".join(f"{name}: {value}\n" for name, value in settings.items())
        (scratch / "flink-conf.yaml").write_text(lines)
        (scratch / "log4j.properties").write_text(_LOG)
        java = [shutil.which("java") or sys.exit("there is no Java: install a runtime, 11 or 17"), *_OPEN, "-Xmx512m"]
        java.append(f"-Dlog4j.configurationFile=file:{scratch / 'log4j.properties'}")
        java.append(f"-Djava.io.tmpdir={scratch}")
        flink = [*java, "-XX:MaxDirectMemorySize=256m", "-cp", f"{directory.absolute()}/flink/*"]
        server = [*java, "-cp", f"{directory.absolute()}/job-server/*"]
        commands = {
            "job-manager": [
                *(*flink, "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"),
                *("--configDir", str(scratch)),
            ],
            "task-manager": [
                *(*flink, "org.apache.flink.runtime.taskexecutor.TaskManagerRunner", "--configDir", str(scratch))
            ],
            "job-server": [
                *(*server, "org.apache.beam.runners.flink.FlinkJobServerDriver"),
                *("--flink-master", f"http://127.0.0.1:{rest}", "--artifacts-dir", str(scratch / "artifacts")),
                *("--job-port", str(job), "--artifact-port", "0", "--expansion-port", "0"),
            ],
            "worker-pool": [*(sys.executable, "-m", "duologue.pipelines.worker_pool", f"--service_port={pool}")],
        }
        processes: dict[str, subprocess.Popen[bytes]] = {}
        logs = {name: stack.enter_context((scratch / f"{name}.log").open("wb")) for name in commands}

        def start(name: str) -> None:
            processes[name] = subprocess.Popen(
                commands[name],
                stdin=subprocess.DEVNULL,
                stdout=logs[name],
                stderr=subprocess.STDOUT,
                preexec_fn=_die_with_parent,
            )
            stack.callback(_stop, processes[name])

        for name in commands:
            start(name)
        _wait_for("task-manager", lambda: _slots(rest) == SLOTS, processes, scratch)
        for name, port in (("job-server", job), ("worker-pool", pool)):
            _wait_for(name, partial(_answers, port), processes, scratch)
        flags = [
            "--runner=FlinkRunner",
            f"--flink_master=127.0.0.1:{rest}",
            f"--job_endpoint=127.0.0.1:{job}",
            "--environment_type=EXTERNAL",
            f"--environment_config=127.0.0.1:{pool}",
            f"--parallelism={SLOTS}",
        ]
        about = {"flags": flags, "processes": {name: process.pid for name, process in processes.items()}}
        print(json.dumps({**about, "directory": str(scratch)}), flush=True)
        while True:
            time.sleep(0.2)
            for name in ("task-manager", "worker-pool"):
                if processes[name].poll() is not None:
                    start(name)


def _end(number: int, _: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("fetch", "run"):
        sys.exit(__doc__)
    if sys.argv[1] == "fetch":
        fetch(Path(sys.argv[2]))
    else:
        signal.signal(signal.SIGTERM, _end)
        signal.signal(signal.SIGINT, _end)
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGTERM)
        run(Path(sys.argv[2]))
