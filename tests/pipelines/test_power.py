"""When the power goes: what a run has told the disk to keep, in which order, and what a rerun makes of the rest."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from duologue.formats.card import CARD
from duologue.formats.rejects import REJECTS
from duologue.formats.temporary import TEMPORARY, temporary_name
from duologue.pipelines.mix import mix
from duologue.pipelines.mix_plan import INDEX
from duologue.pipelines.sidecars import read_sidecar
from duologue.pipelines.synthesize import synthesize
from tests.pipelines.comparing import contents
from tests.pipelines.mixes import small_mix

_CALLS = "openat,open,creat,write,writev,pwrite64,ftruncate,fsync,fdatasync,rename,renameat,renameat2,link,mkdir"
WRITING = ("write", "writev", "pwrite64", "ftruncate")
_LINE = re.compile(r"(?P<pid>\d+) +(?:<\.\.\. )?(?P<name>\w+)(?P<rest>.*)")
_DESCRIPTOR = re.compile(r"\(\d+<([^>]*)>")
_COMMANDS = """
import sys
from duologue.program import main
for line in sys.stdin:
    sys.argv = ["duologue", *line.split()]
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code
"""


@dataclass(frozen=True)
class SystemCall:
    """A call to the system: when it began and ended, by the line of the trace; its name and the rest of the line."""

    began: int
    ended: int
    name: str
    rest: str

    @property
    def file(self) -> str:
        """The path of the descriptor that it was called with."""
        found = _DESCRIPTOR.match(self.rest)
        return found[1] if found else ""

    @property
    def paths(self) -> list[str]:
        """The paths it was called with."""
        return re.findall(r'"([^"]*)"', self.rest)


def traced(trace: Path) -> Iterator[SystemCall]:
    """Yield the calls that succeeded; one that others interrupted stands on two lines."""
    begun: dict[tuple[str, str], tuple[int, str]] = {}
    for number, line in enumerate(trace.read_text(errors="replace").splitlines()):
        found = _LINE.match(line)
        if not found:
            continue
        pid, name, rest = found.group("pid", "name", "rest")
        if rest.endswith("<unfinished ...>"):
            begun[pid, name] = number, rest.removesuffix("<unfinished ...>")
            continue
        began, before = begun.pop((pid, name), (number, "")) if " resumed>" in rest else (number, "")
        if " = -1 " not in rest:
            yield SystemCall(began, number, name, before + rest)


Traced = tuple[Path, list[SystemCall]]
Loss = Callable[[Path], None]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory, dialogues: Path, recordings: Path) -> Traced:
    """What the three commands asked of the system, and where they wrote."""
    place = tmp_path_factory.mktemp("power")
    strace = ["strace", "-f", "-y", "--seccomp-bpf", "-e", f"trace={_CALLS}", "-e", "signal=none", "-o"]
    if (
        shutil.which("strace") is None
        or subprocess.run([*strace, place / "probe", "true"], capture_output=True).returncode
    ):
        pytest.skip("strace is not there, or may not look at other processes here")
    lines = [
        f"synthesize {dialogues} --out {place}/new/spoken --keep-audio --rows-per-shard 2",
        f"tokenize {recordings} --out {place}/new/heard --rows-per-shard 2 --no-checks",
        f"mix {place}/new/spoken {place}/new/heard --stage 2 --out {place}/new/mixed --sequence-length 512 "
        "--sequences-per-shard 2",
    ]
    command = [*strace, place / "trace", sys.executable, "-c", _COMMANDS]
    subprocess.run(command, input="\n".join(lines), text=True, check=True, capture_output=True)
    return place / "new", list(traced(place / "trace"))


def within(calls: list[SystemCall], after: int, before: int, name: str, file: Path | str) -> list[SystemCall]:
    """Return the calls of a name on a file that began after one line of the trace and ended before another."""
    return [c for c in calls if c.name == name and c.file == str(file) and c.began > after and c.ended < before]


@pytest.mark.parametrize("name", ["spoken", "heard", "mixed"])
def test_a_file_is_on_the_disk_before_it_is_named_and_named_on_the_disk_before_what_tells_of_it(
    calls: Traced, name: str
) -> None:
    place, every = calls
    out = place / name
    inside = [call for call in every if any(Path(path).is_relative_to(out) for path in (call.file, *call.paths))]
    named = {Path(call.paths[1]): call for call in inside if call.name.startswith("rename")}
    files = {path for path in out.rglob("*") if path.is_file()}
    assert files <= named.keys() and CARD in {path.name for path in files}
    last = max(call.ended for call in inside) + 1
    synced: dict[Path, int] = {}
    for path, rename in named.items():
        temporary = rename.paths[0]
        assert Path(temporary).name.startswith(TEMPORARY)
        writes = [call for call in inside if call.name.startswith(("write", "pwrite")) and call.file == temporary]
        # The mark of an unfinished artefact is empty.
        written = max((call.ended for call in writes), default=0)
        assert within(inside, written, rename.began, "fsync", temporary), f"{path} was named before it was written"
        synced[path] = min(call.ended for call in within(inside, rename.ended, last, "fsync", path.parent))
    for sidecar in out.glob("[a-z]*-*.json"):
        commit = read_sidecar(sidecar)
        assert commit is not None
        for shard in commit.shards.values():
            assert synced[out / shard["name"]] < named[sidecar].began
    card = named.pop(out / CARD)
    assert all(synced[path] < card.began for path in named)
    made = {Path(call.paths[0]): call for call in every if call.name == "mkdir"}
    for directory in (path for path in made if path.is_relative_to(out) or path == place):
        assert within(every, made[directory].ended, card.began, "fsync", directory.parent)
    assert {out, place} <= made.keys()


def test_nothing_is_written_to_under_its_own_name(calls: Traced) -> None:
    place, every = calls
    writing = [call for call in every if call.name in ("open", "openat", "creat") and "O_CREAT" in call.rest]
    made = [Path(path) for call in writing for path in call.paths if Path(path).is_relative_to(place)]
    assert made and all(path.name.startswith(TEMPORARY) for path in made)


def cut(pattern: str, share: float) -> Loss:
    """Return what cuts the files of a pattern to a share of their bytes."""

    def lose(out: Path) -> None:
        for path in out.glob(pattern):
            path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    return lose


def half_written(out: Path) -> None:
    for path in [*out.glob("*-00001.*")]:
        (out / temporary_name(path.name)).write_bytes(path.read_bytes()[:100])
        path.unlink()


LOSSES = {
    "a shard is empty": cut("*-00001.tar", 0),
    "a shard is cut": cut("*-00001.tar", 0.5),
    "a sidecar is empty": cut("*-00001.json", 0),
    "a sidecar is cut": cut("*-00001.json", 0.5),
    "all shards are empty": cut("*.tar", 0),
    "files have no names yet": half_written,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, dialogues: Path) -> Path:
    place = tmp_path_factory.mktemp("whole")
    synthesize(dialogues, place / "units", rows_per_shard=2)
    mix(small_mix(place / "units", 2), place / "sequences")
    return place


@pytest.mark.parametrize("loss", LOSSES)
def test_what_the_power_took_is_made_again_to_the_same_bytes(
    whole: Path, dialogues: Path, tmp_path: Path, loss: str
) -> None:
    for name in ("units", "sequences"):
        out = Path(shutil.copytree(whole / name, tmp_path / name))
        (out / CARD).unlink()
        (out / REJECTS).unlink(missing_ok=True)
        LOSSES[loss](out)
    (tmp_path / "sequences" / INDEX / "0123").mkdir(parents=True)
    (tmp_path / "sequences" / INDEX / "0123" / temporary_name("000-00000.npz")).write_bytes(b"half")
    synthesize(dialogues, tmp_path / "units", rows_per_shard=2)
    mix(small_mix(whole / "units", 2), tmp_path / "sequences")
    for name in ("units", "sequences"):
        assert contents(tmp_path / name) == contents(whole / name)
