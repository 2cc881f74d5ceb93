"""Files that `torch.save` wrote, old and new: their content as plain data, their tensors read one by one.

A training checkpoint is mostly optimizer; only what is asked for is read.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch

from duologue.formats.foreign import mapped
from duologue.tokenize.unpickle import StandIn, Stream, Unpickler, mapping

# What a legacy file begins with: a pickle of this number.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY = b"\x80\x02\x8a\x0a" + _LEGACY_MAGIC.to_bytes(10, "little") + b"."
_ZIP = b"PK\x03\x04"
_DTYPES = {
    "Bool": torch.bool,
    "Byte": torch.uint8,
    "Char": torch.int8,
    "Short": torch.int16,
    "Int": torch.int32,
    "Long": torch.int64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Float": torch.float32,
    "Double": torch.float64,
}


@dataclass(frozen=True)
class LazyTensor:
    """A tensor in a file.

    Attributes:
        shape: its sizes.
        read: reads it; raises ValueError or what the file's container raises where the file is damaged.
    """

    shape: tuple[int, ...]
    read: Callable[[], torch.Tensor]


State = dict[str, LazyTensor]


@dataclass(frozen=True)
class _Storage:
    dtype: torch.dtype
    numel: int
    read: Callable[[int], bytes]


def is_torch_file(start: bytes) -> bool:
    """Say whether a file that starts so is one that `torch.save` wrote."""
    return start.startswith((_ZIP, _LEGACY))


def read_torch(path: Path) -> Any:
    """Read what was saved, as plain data and stand-ins.

    Raises:
        UserError: the file is missing, empty, or a Git LFS pointer.
        Exception: of any kind, where it is damaged; `ForeignClass` where it asks for code.
    """
    data = mapped(path)
    return _read_zip(path) if data[: len(_ZIP)] == _ZIP else _read_legacy(Stream(data))


def state_of(value: Any) -> State | None:
    """Return the tensors of a state dict by name, or None if it holds none."""
    named = mapping(value) or {}
    state = {name: tensor for name, item in named.items() if (tensor := lazy(item)) and isinstance(name, str)}
    return state or None


def lazy(value: Any) -> LazyTensor | None:
    """Return the tensor that a stand-in stands for, or None if it stands for something else.

    Raises:
        ValueError: it reaches beyond its storage.
    """
    if isinstance(value, StandIn) and value.name == "torch._utils._rebuild_parameter":
        value = value.args[0]
    if not isinstance(value, StandIn) or not value.name.startswith("torch._utils._rebuild_tensor"):
        return None
    storage, offset, shape, strides = value.args[:4]
    sizes = (offset, *shape, *strides)
    if any(type(size) is not int or size < 0 for size in sizes) or len(shape) != len(strides):
        raise ValueError("a tensor's sizes are no sizes")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    # Of a storage, a tensor may show each number once: more would be more memory than the file has.
    if prod(shape) > storage.numel or (prod(shape) and last >= storage.numel):
        raise ValueError("a tensor reaches beyond its storage")

    def read() -> torch.Tensor:
        if not prod(shape):
            return torch.zeros(shape, dtype=storage.dtype)
        content = bytearray(storage.read(storage.numel * storage.dtype.itemsize))
        return torch.frombuffer(content, dtype=storage.dtype).as_strided(shape, strides, offset)

    return LazyTensor(tuple(shape), read)


class _TorchUnpickler(Unpickler):
    """Reads a pickle whose storages lie elsewhere in the file: `storage(key)` reads so many bytes of one."""

    def __init__(self, stream: Stream, storage: Callable[[str], Callable[[int], bytes]]) -> None:
        super().__init__(stream)
        self._storage = storage
        self.storages: dict[str, _Storage] = {}

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the storage that a tensor shows."""
        kind, of, key, _, numel = pid[:5]
        if kind != "storage" or type(numel) is not int or numel < 0 or not isinstance(key, str):
            raise ValueError("not a storage")
        dtype = _DTYPES[of.name.removeprefix("torch.").removesuffix("Storage")]
        return self.storages.setdefault(key, _Storage(dtype, numel, self._storage(key)))


def _read_zip(path: Path) -> Any:
    archive = zipfile.ZipFile(path)
    pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError("this zip file was not written by torch.save")
    root = pickles[0].removesuffix("data.pkl")

    def record(name: str) -> bytes:
        # torch.save compresses nothing; what is compressed could grow without bounds.
        if archive.getinfo(root + name).compress_type != zipfile.ZIP_STORED:
            raise ValueError("this zip file was not written by torch.save")
        return archive.read(root + name)

    def storage(key: str) -> Callable[[int], bytes]:
        def read(size: int) -> bytes:
            content = record(f"data/{key}")
            if len(content) != size:
                raise ValueError("a storage has not the size that it should have")
            return content

        return read

    if f"{root}byteorder" in archive.namelist() and record("byteorder") != b"little":
        raise ValueError("the numbers are big-endian")
    return _TorchUnpickler(Stream(record("data.pkl")), storage).load()


def _read_legacy(stream: Stream) -> Any:
    places: dict[str, int] = {}

    def storage(key: str) -> Callable[[int], bytes]:
        return lambda size: stream.data[places[key] : places[key] + size]

    if Unpickler(stream).load() != _LEGACY_MAGIC or Unpickler(stream).load() != 1001:
        raise ValueError("this file was not written by torch.save")
    if not Unpickler(stream).load()["little_endian"]:
        raise ValueError("the numbers are big-endian")
    reader = _TorchUnpickler(stream, storage)
    content = reader.load()
    for key in Unpickler(stream).load():
        stored = reader.storages[key]
        if int.from_bytes(stream.read(8), "little") != stored.numel:
            raise ValueError("a storage has not the size that it should have")
        places[key] = stream.skip(stored.numel * stored.dtype.itemsize)
    return content
