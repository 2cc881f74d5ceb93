"""Paths of HDFS without one; what is asked of a real one stands in tests/hdfs."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from upath import UPath

from duologue.formats.places import common, is_remote, keeps_leftovers, place


@pytest.fixture(autouse=True)
def _configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name service of two name nodes, none of which there is."""
    settings = {
        "dfs.nameservices": "Speech",
        "dfs.ha.namenodes.Speech": "a,b",
        "dfs.namenode.rpc-address.Speech.a": "a.example.org:8020",
        "dfs.namenode.rpc-address.Speech.b": "b.example.org:8020",
    }
    lines = [f"<property><name>{name}</name><value>{value}</value></property>" for name, value in settings.items()]
    (tmp_path / "hdfs-site.xml").write_text("\n".join(["<configuration>", *lines, "</configuration>"]))
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))


@pytest.mark.parametrize("server", ["namenode:8020", "Speech", "10.0.0.7:9000"])
def test_a_path_is_the_same_from_its_text_and_in_another_process(server: str) -> None:
    path = place(f"hdfs://{server}/units") / "a call #1?" / "b%20.wav"
    assert str(path) == f"hdfs://{server}/units/a call #1?/b%20.wav"
    assert place(str(path)) == path == pickle.loads(pickle.dumps(path)) == UPath(str(path))
    assert str(pickle.loads(pickle.dumps(path))) == str(path)
    assert str(path.parent.parent) == f"hdfs://{server}/units"
    assert path.relative_to(path.parent.parent).as_posix() == "a call #1?/b%20.wav"
    assert is_remote(path) and keeps_leftovers(path)


def test_a_process_that_has_a_client_can_fork() -> None:
    assert place("hdfs://namenode:8020/units").name == "units"
    # With a function to call, the child runs what Python has to do behind a fork.
    subprocess.run([sys.executable, "-c", ""], preexec_fn=lambda: None, check=True)


def test_paths_of_two_servers_are_never_the_same() -> None:
    here, there = (place(f"hdfs://{server}/units/chats") for server in ("one:8020", "other:8020"))
    assert here != there and str(here) != str(there)
    assert common([here, here.parent / "calls"]) == here.parent
