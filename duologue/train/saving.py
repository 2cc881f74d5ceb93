"""Writing checkpoints while the run goes on: a copy in memory, and a thread that brings it to the disk."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from transformers import LlamaConfig

from duologue.errors import UserError, explained, reason_of
from duologue.formats.publish import sync_directory, sync_file
from duologue.formats.temporary import TEMPORARY
from duologue.formats.vocabulary import Vocabulary
from duologue.train.checkpoint import MODEL, OPTIMIZER, TRAINER, checkpoint_name, drop_checkpoints, file_name
from duologue.train.parallel import World

_LOOK_S = 0.02


def _memory_like(tensor: Tensor) -> Tensor:
    try:
        # Pinned, so that a GPU writes into it at full speed.
        return torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda, requires_grad=False)
    except RuntimeError as error:
        # Of pinned memory, CUDA says only that memory is out, which would be taken for its own.
        raise UserError(
            f"the memory of this machine does not hold a checkpoint's copy of the run's state ({reason_of(error)})",
            hint="Share the run among more machines, or take one with more memory; the same command goes on",
        ) from error


class Saver:
    """The checkpoints of a run as they are written; use as a context manager.

    A checkpoint is a directory. Every process writes the rows that it holds, into files of its own, as safetensors;
    the first process adds what describes them and gives the directory its name when all of it is on the disk. So one
    that is cut short, in any process, leaves none, and those before it are deleted only behind a new one.

    A block that ends with a UserError or SystemExit has to end so in all processes (`World.agree`): the checkpoint
    that is being written is finished then. With any other error, as when a process was lost, it is given up.

    Args:
        run: the run directory.
        world: the processes.
        config: of the model.
        vocabulary: of the model.
        keep: how many checkpoints stay.

    Attributes:
        error: what went wrong in this process's writing, or None. Whoever sees it has to `agree` with the others.
    """

    def __init__(self, run: Path, world: World, config: LlamaConfig, vocabulary: Vocabulary, keep: int) -> None:
        self._run, self._world, self._config, self._vocabulary, self._keep = run, world, config, vocabulary, keep
        self._copies: dict[str, dict[str, Tensor]] = {MODEL: {}, OPTIMIZER: {}}
        self._thread: Thread | None = None
        self._temporary: Path | None = None
        self._own_done, self._stop = Event(), Event()
        self.error: UserError | None = None

    def __enter__(self) -> Saver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, UserError | SystemExit):
            # They agreed to end, so all are here and finish what they write; what becomes of it is not why they end.
            with suppress(Exception, SystemExit):
                self.wait()
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._world.first and self._temporary is not None:
            # Not before the others have written: what they write later would stay.
            shutil.rmtree(self._temporary, ignore_errors=True)

    def save(self, model: Mapping[str, Tensor], optimizer: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Begin a checkpoint: it holds what the tensors are now, whatever becomes of them when this has returned.

        All processes call it; it waits for the last one.

        Args:
            model: rows of the weights by name.
            optimizer: rows of its state, by the names of weight and state.
            about: what goes into `trainer.json`; "step" is in it, the number of steps taken.

        Raises:
            UserError: the last one failed, or the memory does not hold the copy.
        """
        self.wait()
        with self._world.agreeing():
            self._copy(MODEL, model)
            self._copy(OPTIMIZER, optimizer)
        if self._world.device.type == "cuda":
            torch.cuda.synchronize()
        self._own_done.clear()
        self._thread = Thread(target=self._write, args=(dict(about),), name="saver", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait, with all processes, until the last checkpoint is on the disk under its name.

        Raises:
            UserError: the disk is full, or the directory cannot be written. The checkpoints before are intact.
        """
        if self._thread is None:
            return
        self._own_done.wait()
        # Before the first process waits for the others' files, which may never come.
        self._world.agree(self.error)
        self._thread.join()
        self._thread = None
        self._world.agree(self.error)

    def _copy(self, kind: str, tensors: Mapping[str, Tensor]) -> None:
        copies = self._copies[kind]
        for name, tensor in tensors.items():
            if name not in copies:
                copies[name] = _memory_like(tensor)
            copies[name].copy_(tensor.detach(), non_blocking=True)

    def _write(self, about: dict[str, Any]) -> None:
        path = self._run / checkpoint_name(about["step"])
        # Every process knows its name, and the run is held: nobody else writes there.
        temporary = self._temporary = self._run / f"{TEMPORARY}{path.name}"
        try:
            with explained(path), safetensors_explained(path):
                temporary.mkdir(exist_ok=True)
                for kind, tensors in self._copies.items():
                    file = temporary / file_name(kind, self._world.rank, self._world.size)
                    part = temporary / f"{TEMPORARY}{file.name}"
                    save_file(tensors, part, metadata={"format": "pt"})
                    # safetensors writes for the owner alone; a checkpoint is as readable as any other new file.
                    part.chmod(temporary.stat().st_mode & 0o666)
                    sync_file(part)
                    part.rename(file)
                self._own_done.set()
                if self._world.first and self._others_done(temporary):
                    self._publish(temporary, path, about)
        except Exception as error:
            self.error = error if isinstance(error, UserError) else _not_written(path, error)
        finally:
            self._own_done.set()

    def _files(self) -> list[str]:
        size = self._world.size
        return [file_name(kind, rank, size) for kind in self._copies for rank in range(size)]

    def _others_done(self, temporary: Path) -> bool:
        """Wait for the files of the other processes; return whether they all came."""
        while not all((temporary / name).exists() for name in self._files()):
            if self._stop.wait(_LOOK_S):
                return False
        return True

    def _publish(self, temporary: Path, path: Path, about: dict[str, Any]) -> None:
        self._config.save_pretrained(temporary)
        self._vocabulary.save(temporary)
        about["processes"] = self._world.size
        about["files"] = {name: (temporary / name).stat().st_size for name in self._files()}
        (temporary / TRAINER).write_text(json.dumps(about, indent=2) + "\n")
        for name in (TRAINER, "config.json"):
            sync_file(temporary / name)
        sync_directory(temporary)
        temporary.rename(path)
        sync_directory(self._run)
        drop_checkpoints(self._run, self._keep)


def _not_written(path: Path, error: Exception) -> UserError:
    # What a thread raises nobody would see.
    return UserError(
        f"the checkpoint could not be written ({type(error).__name__}: {error})",
        where=path,
        hint="The checkpoints before are intact: run the same command again",
    )


@contextmanager
def safetensors_explained(path: Path) -> Iterator[None]:
    """Let `explained`, around it, see what the operating system refuses to safetensors, which wraps it.

    Args:
        path: what is being written, for the message.
    """
    try:
        yield
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), str(error), str(path)) from error
