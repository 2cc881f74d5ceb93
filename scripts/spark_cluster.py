"""A real Spark cluster on loopback for the checks: master, worker, Beam's job server and worker pool.

`python scripts/spark_cluster.py fetch DIR` puts Spark and the job server there, about 250 MB;
`python scripts/spark_cluster.py run DIR` starts it, and prints Beam's flags for it (see `loopback.py`). Spark runs
the tasks of an executor that died again.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import loopback

CORES = 2
# Of itself, for executors as for the job server, in which Spark's driver is.
_OPEN = loopback.opened(
    *("java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.net", "java.nio", "java.util"),
    *("java.util.concurrent", "java.util.concurrent.atomic", "sun.nio.ch", "sun.nio.cs", "sun.security.action"),
    "sun.util.calendar",
)


def fetch(directory: Path) -> None:
    """Download what a cluster needs, unless it is there."""
    # Spark looks for its libraries under this name, and Beam's have to be among them, for the executors.
    loopback.copy_libraries("spark_job_server.xml", directory / "jars")


def run(directory: Path) -> None:
    """Start a cluster, say how to reach it, and stop it when told to."""
    master, master_page, worker_page, job, pool = (loopback.free_port() for _ in range(5))
    # What Spark's own start scripts would work out.
    os.environ.update(SPARK_HOME=str(directory), SPARK_SCALA_VERSION="2.12", SPARK_LOCAL_IP="127.0.0.1")
    url = f"spark://127.0.0.1:{master}"
    with loopback.scratch("spark") as scratch:
        java = [loopback.java(), *_OPEN, f"-Djava.io.tmpdir={scratch}", "-cp", f"{directory}/jars/*"]
        driver = {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.executor.memory": "512m",
            "spark.local.dir": str(scratch),
            "spark.ui.enabled": "false",
        }
        commands = {
            "master": [
                *(*java, "-Xmx256m", "org.apache.spark.deploy.master.Master", "--host", "127.0.0.1"),
                *("--port", str(master), "--webui-port", str(master_page)),
            ],
            "worker": [
                *(*java, "-Xmx256m", "org.apache.spark.deploy.worker.Worker", "--host", "127.0.0.1"),
                *("--webui-port", str(worker_page), "--cores", str(CORES), "--memory", "768m"),
                *("--work-dir", str(scratch / "work"), url),
            ],
            "job-server": [
                *(*java, "-Xmx512m", *(f"-D{name}={value}" for name, value in driver.items())),
                *("org.apache.beam.runners.spark.SparkJobServerDriver", "--spark-master-url", url),
                *("--artifacts-dir", str(scratch / "artifacts"), "--job-host", "127.0.0.1"),
                *("--job-port", str(job), "--artifact-port", "0", "--expansion-port", "0"),
            ],
            "worker-pool": loopback.worker_pool(pool),
        }
        ready: loopback.Ready = {
            "worker": lambda: loopback.number_at(master_page, "/json/", "cores") == CORES,
            "job-server": partial(loopback.answers, job),
            "worker-pool": partial(loopback.answers, pool),
        }
        flags = [*loopback.flags("SparkRunner", job, pool), f"--spark_master_url={url}"]
        loopback.serve(commands, ready, ("worker", "worker-pool"), {"flags": flags}, scratch)


if __name__ == "__main__":
    loopback.main(__doc__, fetch, run)
