"""The processes of a run: one by itself, or as many as `torchrun` starts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import distributed_c10d

from duologue.errors import UserError, reason_of
from duologue.gpus import find_gpus
from duologue.progress import say

# Long enough for a compilation or a slow disk in one process while the others wait.
_PATIENCE = timedelta(minutes=15)
_SPOKEN_KEY = "duologue-spoken"


@dataclass(frozen=True)
class World:
    """The processes of a run, as one of them sees them.

    Every method is called by all processes, in the same order.

    Attributes:
        rank: of this process, from 0.
        size: how many there are.
        device: what this process computes on: its own GPU, or the CPU.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files and speaks."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of a tensor, of one shape everywhere, over the processes."""
        total = tensor.clone()
        if self.size > 1:
            dist.all_reduce(total)
        return total

    def share(self, value: Any, source: int = 0) -> Any:
        """Return the value that the process `source` has, anything that JSON holds; the others' are ignored."""
        if self.size == 1:
            return value
        text = json.dumps(value).encode() if self.rank == source else b""
        length = torch.tensor([len(text)])
        dist.broadcast(length, source)
        letters = torch.empty(int(length), dtype=torch.uint8)
        if text:
            letters.copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
        dist.broadcast(letters, source)
        return json.loads(letters.numpy().tobytes())

    def agree(self, error: UserError | None) -> None:
        """Go on if no process has an error; else end all of them, with one message.

        Args:
            error: of this process.

        Raises:
            UserError: in the first process, whichever had it.
            SystemExit: in the others, with the exit code of a user's error.
        """
        failed = torch.tensor([self.size if error is None else self.rank])
        if self.size > 1:
            dist.all_reduce(failed, dist.ReduceOp.MIN)
        source = int(failed)
        if source == self.size:
            return
        parts = {} if error is None else {"what": error.what, "where": error.where, "hint": error.hint}
        parts = self.share(parts, source)
        if not self.first:
            raise SystemExit(2)
        raise error or UserError(f"{parts['what']}, in process {source}", where=parts["where"], hint=parts["hint"])

    @contextmanager
    def agreeing(self) -> Iterator[None]:
        """Run a block in which one process may meet a `UserError` and others not; then `agree` on it.

        The block itself must not wait for other processes.
        """
        mistake = None
        try:
            yield
        except UserError as error:
            mistake = error
        self.agree(mistake)


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype of the computation that a recipe's `dtype` means on a device."""
    if name == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if name == "bfloat16" else torch.float32


@contextmanager
def joined() -> Iterator[World]:
    """Join the other processes of the run, as the environment that `torchrun` sets says; leave them at the end.

    Without that environment the process is alone. GPUs talk through NCCL, everything on a CPU through gloo.

    Raises:
        UserError: there are more processes on this machine than GPUs, there are several and torch cannot use a GPU
            here, they do not find each other, or another process was lost.
    """
    rank, size, local = (int(os.environ.get(name, default)) for name, default in _ALONE.items())
    device = torch.device("cpu")
    count, trouble = find_gpus()
    if trouble and size > 1:
        # On other machines of the run GPUs may be in order.
        raise UserError(trouble, hint="To train on CPUs, set CUDA_VISIBLE_DEVICES=-1")
    if trouble:
        say(f"training on the CPU: {trouble}")
    if count:
        if local >= count:
            raise UserError(
                f"there are more processes here than the {count} GPUs",
                where="--nproc-per-node",
                hint="Start one process for each GPU",
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        if "WORLD_SIZE" in os.environ:
            store, rank, size = next(iter(dist.rendezvous("env://", rank, size, timeout=_PATIENCE)))
        else:
            store = dist.HashStore()
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"process {rank} of {size} could not join the run ({reason_of(error)})",
            hint="Check the address and port that torchrun was given; where this machine's name has no address, set "
            "GLOO_SOCKET_IFNAME to a network interface, such as lo",
        ) from error
    ended_well = False
    try:
        yield World(rank, size, device)
        ended_well = True
    except UserError as error:
        # What processes did not agree on, such as a GPU's memory that does not suffice, others may meet as well, or
        # as the loss of this process.
        if not _speaks(store):
            raise SystemExit(2) from error
        raise
    except RuntimeError as error:
        if size == 1 or not _is_lost(error):
            raise
        if not _speaks(store):
            raise SystemExit(2) from error
        raise UserError(
            f"another process of the run was lost (noticed by process {rank} of {size}: {reason_of(error)})",
            hint="Look above for what ended it. The last checkpoint is intact: run the same command again, on any "
            "number of processes",
        ) from error
    finally:
        if ended_well:
            dist.destroy_process_group()
        else:
            # To destroy it, NCCL finishes what was begun, together with all others: they may never come.
            distributed_c10d._abort_process_group()


_ALONE = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}


def _is_lost(error: RuntimeError) -> bool:
    # Gloo's errors have no class of their own.
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower() or "NCCL" in str(error)


def _speaks(store: dist.Store) -> bool:
    """Return whether this process is the first to say what ends the run; one message is enough."""
    try:
        return store.add(_SPOKEN_KEY, 1) == 1
    except RuntimeError:
        return True
