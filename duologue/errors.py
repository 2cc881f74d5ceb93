"""The one error a user sees: what is wrong, where, and what to do next."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb


class UserError(Exception):
    """A mistake or a limit that the user can act on; the command line prints it without a traceback.

    Args:
        what: what is wrong, in a sentence without a final full stop.
        where: the file, directory, row or option concerned.
        hint: what to do next, in a sentence without a final full stop.
    """

    def __init__(self, what: str, *, where: str | Path | None = None, hint: str | None = None) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.hint = hint
        super().__init__(what, self.where, hint)

    def __str__(self) -> str:
        where = f" ({self.where})" if self.where else ""
        hint = f". {self.hint}" if self.hint else ""
        return f"{self.what}{where}{hint}"


def reason_of(error: BaseException) -> str:
    """Return the first line of what an error of other people's code says, or its class where it says nothing."""
    # Hadoop's client quotes what a server said, with the lines of a traceback.
    return re.split(r"\n|\\n\\tat", str(error).strip())[0] or type(error).__name__


# cuDNN and cuBLAS have words of their own for it.
_NO_MEMORY = ("out of memory", "ALLOC_FAILED", "unable to find an engine")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether an error of torch means that a device's memory is full."""
    return any(words in str(error) for words in _NO_MEMORY)


_GPU = re.compile("CUDA (driver )?error|CUDA out of memory|cuDNN error|unable to find an engine")


def _refusal_of_gpu(error: Exception) -> UserError | None:
    """Return what an error of torch's says of a GPU, if it does."""
    if not (isinstance(error, RuntimeError) and _GPU.search(str(error))):
        return None
    hint = "See what `nvidia-smi` says of it, and run the same command again: it goes on from here"
    if is_out_of_memory(error):
        hint = "Free its memory of other work, or choose another by CUDA_VISIBLE_DEVICES"
    elif "no kernel image" in str(error):
        hint = "This torch is not made for it: choose another by CUDA_VISIBLE_DEVICES, or the CPU by -1"
    return UserError(f"the GPU refused ({reason_of(error)})", hint=hint)


_DISK = {
    errno.ENOSPC: (
        "the disk is full",
        "Free some space and run the same command again: it goes on from here",
    ),
    errno.EFBIG: (
        "the file is larger than this system allows",
        "Raise the limit on file size (`ulimit -f`), or choose another file system",
    ),
    errno.EDQUOT: ("the disk quota is used up", "Free some space and run the same command again"),
    errno.EACCES: ("permission denied", "Choose a directory you may write to, or change its permissions"),
    errno.EPERM: ("permission denied", "Choose a directory you may write to, or change its permissions"),
    errno.EROFS: ("the file system is read-only", "Choose a directory you may write to"),
    errno.EEXIST: ("a file stands where a directory is needed", "Choose another path"),
    errno.ENOTDIR: ("a part of the path is a file, not a directory", "Choose another path"),
    errno.EISDIR: ("this is a directory, not a file", "Choose another path"),
    errno.ELOOP: ("a link leads back to itself", "Mend the link, or name the file it should lead to"),
    errno.ENAMETOOLONG: ("a name in the path is too long", "Choose a shorter one"),
    errno.EIO: (
        "the device reports an input/output error",
        "Check the disk, then run the same command again",
    ),
}

# Packages that speak to object stores. What they raise, in classes of their own, behind one of Python's, or (as
# Hadoop's client) as one of Python's, is about the store.
_STORES = frozenset({"aiobotocore", "aiohttp", "botocore", "fsspec", "gcsfs", "google", "hdfs_native", "s3fs"})


def _is_of_store(error: BaseException | None) -> bool:
    if error is None:
        return False
    raised = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)][-1:]
    return any(name.partition(".")[0] in _STORES for name in (type(error).__module__, *raised))


def _refusal(error: Exception) -> OSError | None:
    """Return what the operating system said."""
    behind = error.__context__
    # `Path.resolve` has an error of its own for links that lead back to themselves, before Python 3.13.
    if isinstance(error, RuntimeError) and isinstance(behind, OSError) and behind.errno == errno.ELOOP:
        return behind
    return error if isinstance(error, OSError) else None


@contextmanager
def explained(path: str | Path, doing: str = "writing") -> Iterator[None]:
    """Turn refusals of the operating system and of object stores inside the block into a `UserError` naming `path`.

    Refusals of a GPU become one too. A file that is not there stays a `FileNotFoundError`.

    Args:
        path: what is being read or written, for the message.
        doing: "reading" or "writing", for the message.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        refusal = _refusal(error)
        if refusal is not None and refusal.errno in _DISK:
            what, hint = _DISK[refusal.errno]
            if isinstance(refusal, PermissionError) and doing != "writing":
                hint = "Change its permissions, or choose another path"
            raise UserError(f"{what} while {doing}", where=refusal.filename or path, hint=hint) from error
        if (of_gpu := _refusal_of_gpu(error)) is not None:
            raise of_gpu from error
        if isinstance(error, FileNotFoundError) or not (_is_of_store(error) or _is_of_store(error.__cause__)):
            raise
        denied = isinstance(error, PermissionError) or re.search("credentials|AccessControl", str(error), re.I)
        raise UserError(
            f"the object store refused while {doing} ({reason_of(error)})",
            where=path,
            hint="Check the address, your credentials and your rights there"
            if denied
            else "Check that it can be reached, and run the same command again: it goes on from here",
        ) from error
