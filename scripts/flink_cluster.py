"""A real Flink cluster on loopback for the checks: job manager, task manager, Beam's job server and worker pool.

`python scripts/flink_cluster.py fetch DIR` puts Flink and the job server there, about 400 MB;
`python scripts/flink_cluster.py run DIR` starts it, and prints Beam's flags for it (see `loopback.py`). Flink runs
the tasks of a task manager or a worker that died again.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from functools import partial
from pathlib import Path

import loopback

FLINK = "apache-flink-libraries==1.19.3"
SLOTS = 2
ATTEMPTS = 5
_OPEN = loopback.opened("java.lang", "java.util", "java.net", "java.nio", "java.io")
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
    """Download what a cluster needs, unless it is there."""
    if not (directory / "flink").is_dir():
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, FLINK]
            subprocess.run(pip, check=True)
            with tarfile.open(next(Path(scratch).glob("*.tar.gz"))) as archive:
                archive.extractall(scratch, filter="data")
            next(Path(scratch).glob("*/deps/lib")).rename(directory / "flink")
    loopback.copy_libraries("flink_job_server.xml", directory / "job-server")


def run(directory: Path) -> None:
    """Start a cluster, say how to reach it, and stop it when told to."""
    rest, rpc, job, pool = (loopback.free_port() for _ in range(4))
    with loopback.scratch("flink") as scratch:
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
        java = [loopback.java(), *_OPEN, "-Xmx512m"]
        java.append(f"-Dlog4j.configurationFile=file:{scratch / 'log4j.properties'}")
        java.append(f"-Djava.io.tmpdir={scratch}")
        flink = [*java, "-XX:MaxDirectMemorySize=256m", "-cp", f"{directory}/flink/*"]
        server = [*java, "-cp", f"{directory}/job-server/*"]
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
            "worker-pool": loopback.worker_pool(pool),
        }
        ready: loopback.Ready = {
            "task-manager": lambda: loopback.number_at(rest, "/overview", "slots-available") == SLOTS,
            "job-server": partial(loopback.answers, job),
            "worker-pool": partial(loopback.answers, pool),
        }
        flags = [
            *loopback.flags("FlinkRunner", job, pool),
            f"--flink_master=127.0.0.1:{rest}",
            f"--parallelism={SLOTS}",
        ]
        loopback.serve(commands, ready, ("task-manager", "worker-pool"), {"flags": flags}, scratch)


if __name__ == "__main__":
    loopback.main(__doc__, fetch, run)
