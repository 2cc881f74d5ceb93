"""Quantizers that people have: k-means of scikit-learn, torch or NumPy, and SpiritLM's linear one."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from duologue.errors import UserError
from duologue.formats.fingerprint import sha256_file
from duologue.formats.foreign import foreign, mapped
from duologue.tokenize.tokenizer import MOST_UNITS
from duologue.tokenize.torch_files import State, is_torch_file, lazy, read_torch, state_of
from duologue.tokenize.unpickle import Stream, Unpickler, array, attributes, mapping

_NUMPY = b"\x93NUMPY"
_PICKLE = b"\x80"
# What joblib compresses with, told by the first bytes: gzip, zlib, bzip2, xz, lzma.
_DECOMPRESSORS: dict[bytes, Callable[[], Any]] = {
    b"\x1f\x8b": lambda: zlib.decompressobj(wbits=zlib.MAX_WBITS | 16),
    b"\x78": zlib.decompressobj,
    b"BZ": bz2.BZ2Decompressor,
    b"\xfd7zXZ": lzma.LZMADecompressor,
    b"\x5d\x00\x00": lzma.LZMADecompressor,
}
# A k-means of 10,000 centroids with all that scikit-learn keeps of it is far smaller.
_LARGEST = 2**30
# torch.nn.LeakyReLU's own slope, which SpiritLM leaves as it is.
_SLOPE = 0.01


@dataclass(frozen=True)
class QuantizerFile:
    """A quantizer as it was read.

    Attributes:
        name: of the file.
        sha256: of the file.
        about: its kind and settings, as `tokenizer.json` holds them.
        tensors: float32, as `quantizer.safetensors` holds them, in the order in which features meet them.
    """

    name: str
    sha256: str
    about: Mapping[str, Any]
    tensors: Mapping[str, np.ndarray]

    @property
    def width(self) -> int:
        """Numbers in a feature that it takes."""
        return int(next(iter(self.tensors.values())).shape[1])

    @property
    def units(self) -> int:
        """How many different units it gives."""
        return len(list(self.tensors.values())[-1])


def read_quantizer(path: Path) -> QuantizerFile:
    """Read a quantizer, whatever wrote it; no code in it is run.

    Takes a joblib or plain pickle of a scikit-learn k-means, compressed or not; a torch dict with
    `cluster_centers`; SpiritLM's linear quantizer, a torch dict with `model_cfg` and `model_weight`; centroids
    `[units, width]` in an `.npy` file.

    Raises:
        UserError: the file is missing, damaged, a checkpoint, or something else.
    """
    data = mapped(path)
    with foreign(path):
        if data[: len(_NUMPY)] == _NUMPY:
            about, tensors = _kmeans(np.load(path, mmap_mode="r", allow_pickle=False), path)
        elif is_torch_file(data[:32]):
            about, tensors = _from_torch(read_torch(path), path)
        else:
            about, tensors = _kmeans(_sklearn_centroids(data, path), path)
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise UserError(f"{name} holds infinities or NaN", where=path, hint="Copy or download the file again")
    result = QuantizerFile(path.name, sha256_file(path), about, tensors)
    if not 2 <= result.units <= MOST_UNITS:
        raise UserError(
            f"a quantizer of {result.units} units cannot be used",
            where=path,
            hint=f"Give one of 2 to {MOST_UNITS} units",
        )
    return result


def _kmeans(centroids: Any, path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    if not isinstance(centroids, np.ndarray) or centroids.ndim != 2 or centroids.dtype.kind != "f":
        raise UserError(
            "the file holds no centroids, a number for each unit and dimension",
            where=path,
            hint="Name the k-means model itself, as scikit-learn's `KMeans` or as `.npy`",
        )
    # What float32 cannot hold becomes infinite, and is told with the rest.
    with np.errstate(over="ignore", invalid="ignore"):
        return {"kind": "kmeans"}, {"centroids": np.ascontiguousarray(centroids, np.float32)}


def _sklearn_centroids(data: Any, path: Path) -> np.ndarray | None:
    for start, make in _DECOMPRESSORS.items():
        if data[: len(start)] == start:
            decompressor = make()
            data = decompressor.decompress(data[:], _LARGEST)
            if not decompressor.eof:
                raise ValueError("it ends too early, or is larger than any quantizer")
            break
    if data[: len(_PICKLE)] != _PICKLE:
        raise UserError(
            "this is no quantizer that Duologue knows",
            where=path,
            hint="Give a scikit-learn k-means (joblib), a torch dict with `cluster_centers`, SpiritLM's linear "
            "quantizer, or centroids as `.npy`",
        )
    model = Unpickler(Stream(data)).load()
    return array(attributes(model).get("cluster_centers_"))


def _from_torch(content: Any, path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    entries = mapping(content) or {}
    if "cluster_centers" in entries:
        centers = entries["cluster_centers"]
        tensor = lazy(centers)
        return _kmeans(tensor.read().float().numpy() if tensor else array(centers), path)
    weights = state_of(entries.get("model_weight"))
    if weights is None:
        raise UserError(
            "this is no quantizer, but what a checkpoint looks like",
            where=path,
            hint="The checkpoint comes first, and the quantizer after --quantizer",
        )
    return _linear(weights, mapping(entries.get("model_cfg")) or {})


def _linear(weights: State, settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    tensors: dict[str, np.ndarray] = {}
    width = None
    # A torch Sequential: the LeakyReLUs between the layers have the odd numbers.
    for i in range(3):
        weight, bias = (weights[f"{2 * i}.{kind}"].read().float().numpy() for kind in ("weight", "bias"))
        if weight.ndim != 2 or bias.shape != weight.shape[:1] or width not in (None, weight.shape[1]):
            raise ValueError(f"layer {i} of the linear quantizer has the wrong shape")
        width = weight.shape[0]
        tensors |= {f"linear.{i}.weight": weight, f"linear.{i}.bias": bias}
    if len(weights) != 6:
        raise ValueError("a linear quantizer has three layers")
    units = settings["vocab_size"]
    if type(units) is not int or width not in (units, units + 1):
        raise ValueError(f"a linear quantizer of {units} units has {width} outputs")
    # Trained with CTC: the output after the last unit is the blank.
    blank = units if width == units + 1 else None
    return {"kind": "linear", "blank": blank, "slope": _SLOPE}, tensors
