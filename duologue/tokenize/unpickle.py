"""Pickles of other people, read as data: every class and function in them becomes an inert stand-in.

Nothing named in a pickle is imported or called, not even what is admitted. What is not admitted is refused by name.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from math import prod
from mmap import mmap
from typing import Any, ClassVar

import numpy as np

from duologue.formats.foreign import ForeignClass

# What checkpoints and quantizers are made of. Names below these packages stand for settings and estimators.
_PACKAGES = ("fairseq.", "omegaconf.", "sklearn.", "numpy.random.")
_BUILTINS = ("bool", "bytearray", "bytes", "complex", "dict", "float", "int", "list", "object", "set", "str", "tuple")
_MULTIARRAY = ("_reconstruct", "scalar")
_STORAGES = ("Bool", "Byte", "Char", "Short", "Int", "Long", "Half", "BFloat16", "Float", "Double")
_MODULES = {
    "builtins": _BUILTINS,
    "__builtin__": (*_BUILTINS, "long", "unicode"),
    "_codecs": ("encode",),
    "argparse": ("Namespace",),
    "collections": ("OrderedDict", "defaultdict", "Counter"),
    "copyreg": ("_reconstructor",),
    "copy_reg": ("_reconstructor",),
    "joblib.numpy_pickle": ("NumpyArrayWrapper",),
    "numpy": ("ndarray", "dtype", "float32", "float64", "int32", "int64"),
    "numpy.core.multiarray": _MULTIARRAY,
    "numpy._core.multiarray": _MULTIARRAY,
    "pathlib": ("PosixPath",),
    "torch": (
        *(f"{kind}Storage" for kind in _STORAGES),
        *("Size", "device", "float16", "bfloat16", "float32", "float64", "int32", "int64"),
    ),
    "torch._utils": ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"),
    "torch.nn.parameter": ("Parameter",),
    "typing": ("Any", "Dict", "List", "Optional", "Tuple", "Union"),
}
# Numbers and fixed-width text. Objects are never made from bytes.
_NUMPY_TYPE = re.compile(r"[biufcSU]\d{1,4}")


class StandIn:
    """Stands for an object of a class that is not there: it keeps what it was made of and does nothing.

    Attributes:
        name: the full name of the class or function that it stands for.
        args: the arguments it was made with.
        state: what its state was set to, or None.
        entries: what was put into it as a mapping.
        elements: what was put into it as a list.
    """

    name: ClassVar[str]
    args: tuple[Any, ...]
    state: Any
    entries: dict[Any, Any]
    elements: list[Any]

    def __new__(cls, *args: Any, **_: Any) -> StandIn:
        """Keep the arguments."""
        self = object.__new__(cls)
        self.args, self.state, self.entries, self.elements = args, None, {}, []
        return self

    def __init__(self, *args: Any, **_: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key] = value

    def append(self, element: Any) -> None:
        """Keep an element."""
        self.elements.append(element)

    def extend(self, elements: list[Any]) -> None:
        """Keep elements."""
        self.elements.extend(elements)


class Stream:
    """Bytes read in order, never past their end.

    Args:
        data: what is read.
        position: where reading begins.
    """

    def __init__(self, data: bytes | mmap, position: int = 0) -> None:
        self.data = data
        self.position = position

    def skip(self, size: int) -> int:
        """Pass over bytes and return where they begin.

        Raises:
            EOFError: there are not so many.
        """
        begin = self.position
        if not 0 <= size <= len(self.data) - begin:
            raise EOFError("it ends too early")
        self.position += size
        return begin

    def read(self, size: int) -> bytes:
        """Return the next bytes.

        Raises:
            EOFError: there are not so many.
        """
        return self.data[self.skip(size) : self.position]

    def readline(self) -> bytes:
        """Return the bytes up to the next line feed, and it.

        Raises:
            EOFError: there is no line feed.
        """
        return self.read(self.data.find(b"\n", self.position) + 1 - self.position)


# The implementation in Python, not the one in C: its memo is a dictionary, where C allocates for the largest index
# that a damaged file happens to name.
class Unpickler(pickle._Unpickler):
    """Reads one pickle of a stream as plain data and stand-ins, arrays that joblib wrote between its parts included.

    `load` raises `ForeignClass`, or any other exception where the bytes are no pickle.
    """

    dispatch: ClassVar[dict[int, Any]] = {
        opcode: load
        for opcode, load in pickle._Unpickler.dispatch.items()
        # It would reserve as many bytes as the file claims.
        if opcode != pickle.BYTEARRAY8[0]
    }

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self._stream = stream
        self._classes: dict[str, type[StandIn]] = {}

    def find_class(self, module: str, name: str) -> type[StandIn]:
        """Return a stand-in for a class or function that is admitted."""
        full = f"{module}.{name}"
        if name not in _MODULES.get(module, ()) and not full.startswith(_PACKAGES):
            raise ForeignClass(full)
        if full not in self._classes:
            # New for every load: what a pickle does to a stand-in's class is gone with it.
            body: dict[str, Any] = {"name": full}
            if full.endswith(".numpy_pickle.NumpyArrayWrapper"):
                body["__setstate__"] = self._read_array
            self._classes[full] = type("StandIn", (StandIn,), body)
        return self._classes[full]

    @property
    def _read_array(self) -> Any:
        stream = self._stream

        def read(wrapper: StandIn, about: Mapping[str, Any]) -> None:
            """Take the array that joblib wrote behind its wrapper."""
            if _dtype_code(about["dtype"]).startswith("O"):
                wrapper.state = type(self)(stream).load()
                return
            dtype, shape = _dtype(about["dtype"]), _shape(about["shape"])
            if about.get("numpy_array_alignment_bytes") is not None:
                stream.skip(stream.read(1)[0])
            size = prod(shape) * dtype.itemsize
            flat = np.frombuffer(stream.read(size), dtype)
            wrapper.state = flat.reshape(shape, order="F" if about["order"] == "F" else "C")

        return read


def attributes(value: Any) -> dict[str, Any]:
    """Return the attributes that a stand-in's object had; none if it is no stand-in."""
    state = value.state if isinstance(value, StandIn) else None
    return state if isinstance(state, dict) else {}


def mapping(value: Any) -> dict[Any, Any] | None:
    """Return a dict or an OrderedDict as a dict, or None if it is neither."""
    if isinstance(value, StandIn) and value.name == "collections.OrderedDict":
        return value.entries
    return value if isinstance(value, dict) else None


def array(value: Any) -> np.ndarray | None:
    """Return the numpy array that a stand-in stands for, or None if it stands for something else.

    Raises:
        ValueError, TypeError: it stands for an array and is damaged.
    """
    if not isinstance(value, StandIn):
        return None
    if isinstance(value.state, np.ndarray):
        return value.state
    if not value.name.endswith(".multiarray._reconstruct"):
        return None
    _, shape, code, in_columns, data = value.state
    if isinstance(data, StandIn) and data.name == "_codecs.encode":
        # Protocol 2 knows no bytes.
        data = data.args[0].encode("latin-1")
    flat = np.frombuffer(data, _dtype(code))
    return flat.reshape(_shape(shape), order="F" if in_columns else "C")


def _dtype_code(value: Any) -> str:
    if not isinstance(value, StandIn) or value.name != "numpy.dtype" or not isinstance(value.args[0], str):
        raise ValueError("not a numpy type")
    return value.args[0]


def _dtype(value: Any) -> np.dtype[Any]:
    code = _dtype_code(value)
    if not _NUMPY_TYPE.fullmatch(code):
        raise ValueError(f"numpy type {code}")
    order = value.state[1] if isinstance(value.state, tuple) else "<"
    return np.dtype(f"{'>' if order == '>' else '<'}{code}")


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, tuple) or any(type(size) is not int or size < 0 for size in value):
        raise ValueError("not a shape")
    return value
