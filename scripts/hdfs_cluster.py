"""A real HDFS on loopback for the checks: a name node and a data node.

`python scripts/hdfs_cluster.py fetch DIR` puts Hadoop's libraries there, about 50 MB;
`python scripts/hdfs_cluster.py run DIR` starts them, and prints the URL (see `loopback.py`).
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import loopback

_NODES = "org.apache.hadoop.hdfs.server"
_LIVE = "/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState"


def fetch(directory: Path) -> None:
    """Download what it needs, unless it is there."""
    loopback.copy_libraries("hdfs.xml", directory / "jars")


def run(directory: Path) -> None:
    """Start it, say how to reach it, and stop it when told to."""
    port, page = (loopback.free_port() for _ in range(2))
    url = f"hdfs://127.0.0.1:{port}"
    with loopback.scratch("hdfs") as scratch:
        for node in ("hdfs", "datanode"):
            # Pages for people, which the libraries lack and the nodes look for.
            (scratch / "webapps" / node).mkdir(parents=True)
        (scratch / "log4j.properties").write_text(
            "log4j.rootLogger=WARN,console\n"
            "log4j.appender.console=org.apache.log4j.ConsoleAppender\n"
            "log4j.appender.console.layout=org.apache.log4j.SimpleLayout\n"
        )
        _settings(scratch / "core-site.xml", {"fs.defaultFS": url, "hadoop.tmp.dir": str(scratch)})
        _settings(
            scratch / "hdfs-site.xml",
            {
                "dfs.replication": "1",
                "dfs.namenode.http-address": f"127.0.0.1:{page}",
                **{f"dfs.datanode.{name}": "127.0.0.1:0" for name in ("address", "ipc.address", "http.address")},
            },
        )
        java = [loopback.java(), "-Xmx256m", "-cp", f"{scratch}:{directory}/jars/*"]
        name_node = [*java, f"{_NODES}.namenode.NameNode"]
        subprocess.run([*name_node, "-format"], check=True, capture_output=True)
        commands = {"name-node": name_node, "data-node": [*java, f"{_NODES}.datanode.DataNode"]}
        ready = {"data-node": lambda: loopback.number_at(page, _LIVE, "beans", 0, "NumLiveDataNodes") == 1}
        loopback.serve(commands, ready, (), {"url": url}, scratch)


def _settings(path: Path, values: Mapping[str, str]) -> None:
    lines = [f"<property><name>{name}</name><value>{value}</value></property>" for name, value in values.items()]
    path.write_text("\n".join(["<configuration>", *lines, "</configuration>", ""]))


if __name__ == "__main__":
    loopback.main(__doc__, fetch, run)
