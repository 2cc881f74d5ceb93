import errno
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from duologue.errors import UserError
from duologue.formats.publish import publishing, sweep, write_bytes


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_file_appears_when_the_block_ends(tmp_path):
    with publishing(tmp_path / "shard.tar") as file:
        file.write(b"some")
        assert not (tmp_path / "shard.tar").exists()
    assert (tmp_path / "shard.tar").read_bytes() == b"some"
    assert names(tmp_path) == ["shard.tar"]


def test_exception_leaves_nothing_and_the_old_file_as_it_was(tmp_path):
    write_bytes(tmp_path / "old", b"old")
    for name in ("old", "new"):
        with pytest.raises(KeyboardInterrupt), publishing(tmp_path / name) as file:
            file.write(b"half")
            raise KeyboardInterrupt
    assert names(tmp_path) == ["old"]
    assert (tmp_path / "old").read_bytes() == b"old"


def test_two_attempts_at_one_file_do_not_write_into_each_other(tmp_path):
    with publishing(tmp_path / "file") as slow:
        slow.write(b"one")
        write_bytes(tmp_path / "file", b"two")
        slow.write(b" more")
        assert (tmp_path / "file").read_bytes() == b"two"
    assert (tmp_path / "file").read_bytes() == b"one more"


@pytest.fixture
def full_disk(tmp_path, monkeypatch):
    """Makes the next temporary file of `tmp_path` / "shard.tar" one on a device that is full: writing to it fails."""
    name = uuid.UUID(int=7)
    monkeypatch.setattr("duologue.formats.temporary.uuid.uuid4", lambda: name)
    (tmp_path / f".tmp-{name.hex}-shard.tar").symlink_to("/dev/full")
    return tmp_path / "shard.tar"


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_full_disk_is_the_users_to_mend_and_leaves_nothing(full_disk, size):
    with pytest.raises(UserError, match="the disk is full while writing") as caught:
        write_bytes(full_disk, bytes(size))
    assert "run the same command again" in str(caught.value)
    assert names(full_disk.parent) == []


def test_file_beyond_the_systems_limit_is_the_users_to_mend_and_leaves_nothing(tmp_path):
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from duologue.errors import UserError\n"
        "from duologue.formats.publish import write_bytes\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        "try:\n"
        "    write_bytes(Path(sys.argv[1]), bytes(10**6))\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    path = tmp_path / "shard.tar"
    out = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True).stdout
    assert out.startswith("the file is larger than this system allows while writing")
    assert str(path) in out
    assert names(tmp_path) == []


def test_what_the_disk_says_when_a_file_is_synced_is_heard(tmp_path, monkeypatch):
    def fsync(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    with (
        pytest.raises(UserError, match="the device reports an input/output error") as caught,
        publishing(tmp_path / "shard.tar") as file,
    ):
        file.write(bytes(2 << 20))
    assert str(tmp_path / "shard.tar") in str(caught.value)
    assert names(tmp_path) == []


def test_directory_that_is_a_file_is_the_users_to_mend(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(UserError, match="a part of the path is a file"):
        write_bytes(tmp_path / "out" / "shard.tar", b"")


def test_killed_attempt_leaves_a_temporary_file_that_is_swept(tmp_path):
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from duologue.formats.publish import publishing\n"
        "with publishing(Path(sys.argv[1])) as file:\n"
        "    file.write(bytes(10**6))\n"
        "    print('written', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    (tmp_path / "deep").mkdir()
    path = tmp_path / "deep" / "shard.tar"
    with subprocess.Popen(
        [sys.executable, "-c", script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert not path.exists()
    assert len(names(path.parent)) == 1
    write_bytes(tmp_path / "kept", b"")
    sweep(tmp_path)
    assert names(tmp_path) == ["deep", "kept"]
    assert names(path.parent) == []


def test_other_errors_of_the_block_pass_as_they_are(tmp_path):
    with pytest.raises(OSError) as caught, publishing(tmp_path / "file"):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    assert caught.value.errno == errno.EBADF
    assert names(tmp_path) == []
