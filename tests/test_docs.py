"""The commands in the docs are commands: they parse as they stand."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from duologue.cli import app
from duologue.formats import turntaking
from duologue.tokenize import checks

README = Path(__file__).parents[1] / "README.md"
DOCS = README.parent / "docs"
# A synopsis, not a command: `[--seed S]`, `a|b`, `DIR...`.
_SYNOPSIS = re.compile(r"[\[\]|]|\.\.\.|\bDIR\b")


def examples(group: Any) -> Iterator[tuple[str, str]]:
    """Yield name and example of every command that helps with one."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from examples(command)
        elif found := re.search("Example: (duologue .*)", command.help):
            yield f"{name} --help", found[1]


def commands() -> Iterator[tuple[str, str]]:
    """Yield page and line of every command in a block of a page, those that torchrun starts among them."""
    yield from examples(typer.main.get_command(app))
    for page in (README, *sorted(DOCS.glob("*.md"))):
        for block in re.findall(r"^```\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE):
            for line in block.replace("\\\n", " ").splitlines():
                found = re.match(r"(?:torchrun (?:--[\w-]+ (?:\d+ )?)+-m )?(duologue [a-z].*)", line)
                if found and not _SYNOPSIS.search(line):
                    yield page.name, found[1]


COMMANDS = sorted(set(commands()))


def parse(line: str) -> typer.Context:
    """Parse a command as the program does, without running it."""
    # Of stores, the one whose package is installed for the tests.
    words = shlex.split(line.replace("gs://", "s3://"), comments=True)[1:]
    words = words[: words.index("--")] if "--" in words else words
    command, name = typer.main.get_command(app), "duologue"
    while hasattr(command, "commands"):
        name, *words = words
        command = command.commands[name]
    return command.make_context(name, words)


def test_the_guide_walks_the_whole_road() -> None:
    steps = [" ".join(shlex.split(line)[1:3]) for page, line in COMMANDS if page == "fisher.md"]
    for step in (
        "manifest fisher",
        "tokenizer import",
        "tokenize",
        "synthesize",
        "mix",
        "train",
        "curve",
        "export hf",
    ):
        assert any(found.startswith(step) for found in steps), step


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=[f"{page}: {line}" for page, line in COMMANDS])
def test_a_command_in_the_docs_parses(page: str, line: str) -> None:
    assert parse(line)


@pytest.mark.parametrize(
    "line", ["duologue train --recpie x", "duologue tokenise x --out y", "duologue mix units --stage two --out x"]
)
def test_a_wrong_command_would_be_found(line: str) -> None:
    with pytest.raises((KeyError, typer.TyperException)):
        parse(line)


def test_the_histograms_of_the_checks_are_those_of_the_page() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (\S+) to (\S+)(?: \w+)? \| (\S+)(?: \w+)? \|", (DOCS / "checks.md").read_text("utf-8"), re.M
    )
    said = {name: tuple(map(float, numbers)) for name, *numbers in rows}
    every = {**turntaking.HISTOGRAMS, **checks.HISTOGRAMS}
    assert said == {
        name: (bins.first, pytest.approx(bins.first + bins.count * bins.width), bins.width)
        for name, bins in every.items()
    }
