"""The program: runs the command line, and says in one message what went wrong."""

from __future__ import annotations

import getpass
import io
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TextIO

import typer

from duologue.cli import app
from duologue.errors import UserError, explained

# The commands that Beam's flags behind `--` go to.
_ON_BEAM = ("synthesize", "tokenize", "mix", "preflight", "run-info")
# typer makes this exit code of an interrupt too.
_INTERRUPTED = 130


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Note each Ctrl-C inside the block, which is raised as ever: Beam makes other errors of it on its way."""
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        signal.default_int_handler(number, frame)

    # Where it is ignored, as behind `nohup` or `&`, that stays so.
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heard:
        signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        if heard:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _usage_error(error: typer.TyperException) -> UserError:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "duologue"
    return UserError(error.format_message().rstrip("."), hint=f"See `{command} --help`")


def _check_flags(arguments: Sequence[str], flags: Sequence[str]) -> None:
    if flags and arguments[:1] and arguments[0] not in _ON_BEAM:
        raise UserError(
            f"behind `--` stand Beam's flags, and `{arguments[0]}` does not run on it",
            where=" ".join(flags),
            hint=f"Leave them out: {', '.join(_ON_BEAM)} take them",
        )


def _flush(stream: TextIO) -> None:
    try:
        stream.flush()
    except OSError:
        # Python flushes once more as it ends: into nothing, or the exit code would be its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise


def _stand_in() -> None:
    """Put nothing in the place of standard streams that are closed: the next file would take their number.

    To Python they are None, and what is printed to None comes on standard output, among the results.
    """
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


def _in_utf8() -> None:
    """Begin again in Python's UTF-8 mode where it is in another encoding.

    Otherwise files would be called differently in different locales, and so would the dialogues in them.
    """
    if sys.getfilesystemencoding() == "utf-8":
        return
    os.environ["PYTHONUTF8"] = "1"
    os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _be_somebody() -> None:
    """Give a user without an account, as containers have them, a name: torch asks for one as it is imported."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = str(os.getuid())


def main() -> None:
    """Run the command line.

    Exit codes: 0 done; 1 what was looked at (`verify`, `tokenizer check`, `run-info`) is not as it should be, or
    nobody reads the output any more; 2 a mistake or a limit that the user can act on (one message, no traceback);
    130 interrupted by Ctrl-C.
    """
    _stand_in()
    _in_utf8()
    _be_somebody()
    arguments, flags = sys.argv[1:], []
    # Behind the `--` of `why`, which runs nothing, stands an id that begins with a dash.
    if "--" in arguments and arguments[0] != "why":
        place = arguments.index("--")
        arguments, flags = arguments[:place], arguments[place + 1 :]
    # Beam and its workers talk of themselves at length; what matters reaches the user as an error. Of the handler
    # and not of the logger: libraries set levels of their own.
    quiet = logging.StreamHandler()
    quiet.setLevel(logging.CRITICAL)
    logging.basicConfig(handlers=[quiet])
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A letter that the terminal's encoding lacks comes as its number.
        sys.stdout.reconfigure(errors="backslashreplace")
    code, message, ended = 0, "", False
    with _interrupts() as interrupts:
        try:
            _check_flags(arguments, flags)
            # For what no command explains itself.
            with explained("", "reading or writing"):
                code = app(args=arguments or ["--help"], prog_name="duologue", obj=flags, standalone_mode=False)
            with explained("standard output"):
                _flush(sys.stdout)
            ended = code != _INTERRUPTED
        except UserError as error:
            code, message = 2, f"error: {error}"
        except typer.TyperException as error:
            code, message = 2, f"error: {_usage_error(error)}"
        except BrokenPipeError:
            # The reader, such as `head`, has seen enough.
            code = 1
        except (Exception, KeyboardInterrupt):
            if not interrupts:
                raise
    # A library may have taken one for itself, as some do while they are imported.
    if interrupts and not ended:
        code, message = _INTERRUPTED, "interrupted. Run the same command again: it goes on from here"
    # What cannot be told is no mistake of the work.
    with suppress(OSError):
        if message:
            print(f"duologue: {message}", file=sys.stderr)
    with suppress(OSError):
        _flush(sys.stderr)
    sys.exit(code)
