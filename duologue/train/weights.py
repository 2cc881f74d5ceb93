"""Where weights come from: rows of tensors, made or read, so that no process needs more of them than its own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from duologue.errors import explained
from duologue.formats import seeds
from duologue.train.llama import allocate, empty_llama, not_loaded, read_config
from duologue.train.parallel import World
from duologue.train.sharding import Weights

EMBEDDINGS = ("model.embed_tokens.weight", "lm_head.weight")
# Weights in memory at once, besides the model's own.
_FILLED_AT_ONCE = 8
# Rows of an embedding in memory at once, where all are gone through.
_AT_ONCE = 16384


class Source(Protocol):
    """Weights to begin with, by their names in Hugging Face layout."""

    config: LlamaConfig

    def rows(self, name: str, shape: torch.Size, span: range) -> Tensor:
        """Return the rows `span` of the weight `name`, which has `shape` as a whole, in float32.

        Raises:
            ValueError: there is no such weight, or one of another shape.
        """
        ...


class FreshWeights:
    """A model from nothing: normal with Llama's deviation, every weight from a seed of its own; norms are one."""

    def __init__(self, config: LlamaConfig, seed: int) -> None:
        self.config, self._seed = config, seed

    def rows(self, name: str, shape: torch.Size, span: range) -> Tensor:
        """Return rows of a weight; see `Source`."""
        if len(shape) == 1:
            return torch.ones(len(span))
        # Whole, though only a piece is wanted: so it is the same however it is cut.
        generator = torch.Generator().manual_seed(seeds.integer(self._seed, "weights", name) >> 1)
        whole = torch.empty(shape).normal_(std=self.config.initializer_range, generator=generator)
        return whole[span.start : span.stop]


class StoredTensors:
    """Tensors in safetensors files, each whole in one of them or its rows in several, in the files' order.

    Args:
        files: the files.

    Raises:
        SafetensorError: one is damaged.
        FileNotFoundError: one is missing.
    """

    def __init__(self, files: list[Path]) -> None:
        self._places: dict[str, list[tuple[Path, tuple[int, ...]]]] = {}
        for path in files:
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118  # no dictionary
                    self._places.setdefault(name, []).append((path, tuple(file.get_slice(name).get_shape())))

    def rows(self, name: str, shape: torch.Size, span: range) -> Tensor:
        """Return rows of a tensor; see `Source`."""
        if name not in self._places:
            raise ValueError(f"it has no {name}")
        places = self._places[name]
        found = (sum(part[0] for _, part in places), *places[0][1][1:])
        if found != tuple(shape):
            raise ValueError(f"{name} is {list(found)}, not {list(shape)}")
        pieces, begin = [], 0
        for path, part in places:
            first, stop = max(span.start - begin, 0), min(span.stop - begin, part[0])
            if first < stop:
                with safe_open(path, "pt") as file:
                    pieces.append(file.get_slice(name)[first:stop].float())
            begin += part[0]
        return torch.cat(pieces) if pieces else torch.empty(0, *shape[1:])


class StoredWeights:
    """A model in Hugging Face layout, or in one of our checkpoints.

    Args:
        path: a directory, or a name on the hub (which is then asked for it).

    Raises:
        UserError: there is no such model, it is damaged, or it is not a Llama.
    """

    def __init__(self, path: str | Path) -> None:
        self.config = read_config(path)
        with _loading(path):
            directory = Path(path) if Path(path).is_dir() else _from_hub(str(path))
            self._tensors = StoredTensors(part_files(directory, "model"))

    def rows(self, name: str, shape: torch.Size, span: range) -> Tensor:
        """Return rows of a weight; see `Source`."""
        return self._tensors.rows(name, shape, span)


class WidenedWeights:
    """A model whose embeddings, input and output, get more rows: the new ones at the mean of those in use before.

    The rows below `base_size` stay as they are, so the logits of text do. Rows beyond the vocabulary (`rows` is its
    size rounded up) are never a target, so training drives their probability to nothing; whoever samples may still
    leave them out.

    Args:
        source: the model as it was.
        rows: rows afterwards, a multiple of 128.
        base_size: rows in use before, at most the rows that there are.
    """

    def __init__(self, source: Source, rows: int, base_size: int) -> None:
        self._source, self._base_size, self._before = source, base_size, source.config.vocab_size
        self.config = source.config.__class__.from_dict(source.config.to_dict())
        self.config.vocab_size = rows
        self._means: dict[str, Tensor] = {}

    def rows(self, name: str, shape: torch.Size, span: range) -> Tensor:
        """Return rows of a weight; see `Source`."""
        if name not in EMBEDDINGS:
            return self._source.rows(name, shape, span)
        before = torch.Size((self._before, *shape[1:]))
        kept = range(min(span.start, self._base_size), min(span.stop, self._base_size))
        old = self._source.rows(name, before, kept)
        new = len(span) - len(kept)
        return torch.cat([old, self._mean(name, before).expand(new, -1)]) if new else old

    def _mean(self, name: str, shape: torch.Size) -> Tensor:
        if name not in self._means:
            total = torch.zeros(shape[1:], dtype=torch.float64)
            for begin in range(0, self._base_size, _AT_ONCE):
                span = range(begin, min(begin + _AT_ONCE, self._base_size))
                total += self._source.rows(name, shape, span).sum(dim=0, dtype=torch.float64)
            self._means[name] = (total / self._base_size).float()
        return self._means[name]


def part_files(directory: Path, stem: str) -> list[Path]:
    """Return the files of a model or an optimizer: `model.safetensors` for the stem "model", or its parts in order.

    Raises:
        FileNotFoundError: there are none, or a part is missing.
    """
    if (one := directory / f"{stem}.safetensors").exists():
        return [one]
    parts = sorted(directory.glob(f"{stem}-*-of-*.safetensors"))
    if not parts:
        raise FileNotFoundError(f"it has no {stem}.safetensors")
    count = int(parts[0].stem.rpartition("-")[2])
    if len(parts) != count:
        raise FileNotFoundError(f"it has {len(parts)} of the {count} parts of {stem}")
    return parts


def whole_model(source: Source, path: str | Path) -> LlamaForCausalLM:
    """Return all of a source's weights as a model, in float32 on the CPU.

    Args:
        source: of the weights.
        path: where they are from, for messages.

    Raises:
        UserError: a weight is missing or damaged.
    """
    llama = empty_llama(source.config)
    allocate(llama, torch.device("cpu"))
    fill(Weights(llama, World(0, 1, torch.device("cpu"))), source, path)
    return llama


def fill(weights: Weights, source: Source, path: str | Path) -> None:
    """Fill the rows that this process holds of a model.

    Args:
        weights: of the model.
        source: of the numbers.
        path: where they are from, for messages.

    Raises:
        UserError: a weight is missing, damaged or of another shape.
    """

    def fill_one(name: str) -> None:
        with torch.no_grad():
            weights.rows[name].copy_(source.rows(name, weights.shapes[name], weights.spans[name]))

    # Drawing, reading and widening each take one core.
    with _loading(path), ThreadPoolExecutor(_FILLED_AT_ONCE) as pool:
        list(pool.map(fill_one, weights.rows))
    weights.refresh()


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, allow_patterns=["*.json", "model*.safetensors"]))


@contextmanager
def _loading(path: str | Path) -> Iterator[None]:
    try:
        with explained(path, "reading"):
            yield
    except (OSError, ValueError, SafetensorError) as error:
        raise not_loaded(path, error) from error
