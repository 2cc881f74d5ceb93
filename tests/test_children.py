from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.commands import ENVIRONMENT, PROGRAM, call, chats


def test_files_of_the_users_directory_are_not_taken_for_modules_by_workers_and_repairs(tmp_path: Path) -> None:
    chats(tmp_path / "chats.jsonl", 2)
    for name in ("tokenize", "queue", "torch"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a script of the user')")
    assert call("manifest", "dialogues", tmp_path / "chats.jsonl", "--out", tmp_path / "manifest") == 0

    def typed(*words: str) -> subprocess.CompletedProcess[str]:
        # The installed script does not look into the directory either.
        root = str(Path(__file__).parents[1])
        environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join([root, *sys.path])}
        command = [sys.executable, "-P", *PROGRAM, *words]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    ended = typed("synthesize", "manifest", "--out", "units", "--rows-per-shard", "1", "--workers", "2")
    assert ended.returncode == 0, ended.stderr
    (tmp_path / "units" / "units-00001.tar").write_bytes(b"damaged")
    ended = typed("verify", "units", "--repair")
    assert ended.returncode == 1
    assert "script of the user" not in ended.stderr
    assert call("verify", tmp_path / "units") == 0
