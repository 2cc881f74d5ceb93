import errno
import fcntl
import time
from pathlib import Path

import pytest

from duologue.errors import UserError
from duologue.formats.locks import is_held, locked


def test_who_wants_a_directory_alone_is_refused_while_others_share_it(tmp_path: Path) -> None:
    with (
        locked(tmp_path, fcntl.LOCK_SH),
        locked(tmp_path, fcntl.LOCK_SH),
        pytest.raises(UserError, match="another run is writing here"),
        locked(tmp_path, fcntl.LOCK_EX, 0),
    ):
        pass
    with locked(tmp_path, fcntl.LOCK_EX, 0):
        assert is_held(tmp_path)
    assert is_held(tmp_path) is False


def test_others_are_waited_for_and_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    with locked(tmp_path, fcntl.LOCK_SH), pytest.raises(UserError), locked(tmp_path, fcntl.LOCK_EX, 0.5):
        pass
    assert time.monotonic() - began >= 0.5
    assert capsys.readouterr().err.count("waiting for the workers") == 1


def test_a_file_system_without_locks_keeps_nobody_out_and_the_launcher_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(descriptor: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path, fcntl.LOCK_SH):
        assert capsys.readouterr().err == ""
    for _ in range(2):
        with locked(tmp_path, fcntl.LOCK_EX, 0):
            pass
    assert capsys.readouterr().err.count("cannot be locked ([Errno 37] No locks available)") == 1
    assert is_held(tmp_path) is None


def test_a_directory_that_may_not_be_opened_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match="a part of the path is a file"),
        locked(tmp_path / "file" / "x", fcntl.LOCK_SH),
    ):
        pass
