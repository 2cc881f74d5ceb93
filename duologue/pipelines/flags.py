"""Beam's own flags, behind `--`: checked before anything runs, since Beam itself passes over what it doesn't know."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Sequence
from typing import NoReturn

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from duologue.errors import UserError

_WHERE = "the flags behind --"


def runner_of(flags: Sequence[str]) -> str | None:
    """Return the runner that flags name, or None where they leave it to Duologue: the in-process one."""
    runner = PipelineOptions(list(flags)).view_as(StandardOptions).runner
    return str(runner) if runner else None


def check_flags(flags: Sequence[str], more: Iterable[str] | None = None) -> None:
    """Refuse flags that nobody would look at.

    Args:
        flags: as given behind `--`.
        more: names without dashes that the runner knows beside Beam's Python side; None while its job server was not
            asked for them: then only what Beam knows is checked.

    Raises:
        UserError: a flag is unknown, with the nearest known one; or its value is of the wrong type.
    """

    def look(parser: argparse.ArgumentParser) -> None:
        parser.error = _refuse  # type: ignore[method-assign]  # it would print all of Beam's flags, and exit
        for name in more or ():
            if f"--{name}" not in parser._option_string_actions:
                parser.add_argument(f"--{name}", nargs="?")
        unknown = parser.parse_known_args(list(flags))[1]
        if unknown and more is not None:
            name = unknown[0].split("=")[0]
            near = difflib.get_close_matches(name, parser._option_string_actions, 1)
            raise UserError(
                f"{name} is no flag of Beam or of the runner" + (f"; the nearest is {near[0]}" if near else ""),
                where=_WHERE,
                hint="Correct it: Beam would pass over it and run with the default",
            )

    PipelineOptions(list(flags)).get_all_options(add_extra_args_fn=look)


def _refuse(message: str) -> NoReturn:
    raise UserError(message, where=_WHERE, hint="Correct the flag: Beam's documentation of its runner has them")
