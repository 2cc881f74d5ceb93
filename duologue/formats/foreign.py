"""Files of other people's making: mapped, told apart by their first bytes, and any damage told in one message."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path

from duologue.errors import UserError, explained, reason_of

_LFS = b"version https://git-lfs"


class ForeignClass(pickle.UnpicklingError):
    """A pickle names a class or function that has no place in it.

    Args:
        name: the full name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name)


def mapped(path: Path) -> mmap:
    """Return a file's bytes, mapped into memory.

    Raises:
        UserError: there is no such file, it is empty or no file, may not be read, or is only the pointer to a file.
    """
    try:
        with explained(path, "reading"):
            special = path.exists() and not (path.is_file() or path.is_dir())
        if special:
            # A pipe would be waited for.
            raise UserError("this is a pipe or a device, not a file", where=path, hint="Give the file itself")
        with explained(path, "reading"), path.open("rb") as file:
            data = mmap(file.fileno(), 0, access=ACCESS_READ)
    except FileNotFoundError as error:
        raise UserError("there is no such file", where=path, hint="Check the path") from error
    except ValueError as error:
        raise UserError("the file is empty", where=path, hint="Copy or download it again") from error
    if data[: len(_LFS)] == _LFS:
        raise UserError(
            "this is a Git LFS pointer, not the file that it points to",
            where=path,
            hint="Run `git lfs pull` in the repository that it is from",
        )
    return data


@contextmanager
def foreign(path: Path) -> Iterator[None]:
    """Let whatever reading a foreign file raises inside the block become a `UserError` that names it."""
    try:
        with explained(path, "reading"):
            yield
    except UserError as error:
        if error.where is not None:
            raise
        raise UserError(error.what, where=path, hint=error.hint) from error
    except FileNotFoundError as error:
        raise UserError("there is no such file", where=path, hint="Check the path") from error
    except ForeignClass as error:
        raise UserError(
            f"the file asks for {error.name}, which has no place in it; nothing of it was run",
            where=path,
            hint="Trust it no further: get the file from those who published it",
        ) from error
    except Exception as error:  # damaged bytes can break a reader anywhere
        raise UserError(
            f"the file is damaged, or not what it should be ({reason_of(error)})",
            where=path,
            hint="Copy or download it again",
        ) from error
