"""The examples of the page on the format are what its own commands make."""

import json
import re
import shlex
import tarfile
from pathlib import Path
from typing import Any

import pytest

from duologue.pipelines.inspect import show
from tests.commands import call

PAGE = (Path(__file__).parents[1] / "docs" / "format.md").read_text("utf-8")


def blocks(beginning: str, kind: str = "") -> list[str]:
    found = re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return [block for block in found if block.startswith(beginning)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("page")
    (chats,), (commands,) = blocks('{"id":"chat.1"'), blocks("duologue manifest")
    (place / "chats.jsonl").write_text(chats)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for line in commands.splitlines():
            assert call(*shlex.split(line)[1:]) == 0
    return place


def member(shard: Path, name: str) -> Any:
    with tarfile.open(shard) as tar:
        content = tar.extractfile(name)
        assert content is not None
        return json.load(content)


def holds(said: Any, made: Any) -> bool:
    """Say whether a part of a card is as the page has it, where `...` stands for anything."""
    if isinstance(said, dict):
        return said.keys() == made.keys() and all(holds(value, made[name]) for name, value in said.items())
    if isinstance(said, list):
        return len(said) == len(made) and all(map(holds, said, made))
    return said in ("...", made)


def test_the_page_shows_the_members_that_are_made(made: Path) -> None:
    (units,), (sequence,) = blocks('{"about"', "json"), blocks('{"documents"', "json")
    assert json.loads(units) == member(made / "units/chats/units-00000.tar", "chat2.json")
    assert json.loads(sequence) == member(made / "sequences/stage1/train-00000.tar", "000000000.json")


def test_the_page_shows_the_card_that_is_made(made: Path) -> None:
    (said,) = blocks('{\n  "format"', "json")
    card = json.loads((made / "sequences/stage2/dataset.json").read_text())
    assert holds(json.loads(said.replace("{...}", '"..."')), card)


def test_the_page_shows_the_tokens_that_are_made(made: Path) -> None:
    (said,) = blocks("# chat2")
    for number, sequence in enumerate(said.split("\n\n")):
        lines = show(made / "sequences/stage2", number).splitlines()
        assert len(lines) == len(sequence.splitlines())
        for line, shown in zip(lines, sequence.splitlines(), strict=True):
            assert line == shown or (shown.endswith(" ...") and line.startswith(shown.removesuffix(" ...")))
    (stream,) = blocks("[S1]")
    shown = show(made / "sequences/stage1", 0).splitlines()[1]
    assert re.fullmatch(".*".join(map(re.escape, stream.strip().split("..."))), shown)
