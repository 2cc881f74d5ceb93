"""HuBERT units of whole recordings, several at a time, each recording's own whatever goes with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from duologue.errors import UserError, explained
from duologue.formats.fingerprint import sha256_file
from duologue.formats.rejects import Unusable
from duologue.tokenize.architecture import SAMPLE_RATE, Architecture
from duologue.tokenize.band import Band, Window
from duologue.tokenize.batches import BatchedNetwork, Finish, Row
from duologue.tokenize.cutting import Cutter, Stretch
from duologue.tokenize.devices import own_device
from duologue.tokenize.hubert import Hubert
from duologue.tokenize.quantizer import Quantizer, quantizer_of, without_blanks
from duologue.tokenize.tokenizer import MODEL, QUANTIZER, check_way
from duologue.tokenize.windows import POLICY, WINDOW_S, joined, units_of

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# What the code, and not a model, decides of an identity.
WAY = {"resampler": "soxr HQ", "window": POLICY}
# Batches that are under way on a GPU while the next ones are cut.
_UNDER_WAY = 2


@dataclass
class _Channel:
    """What the convolutions and the windows of a channel gave so far; a window under way has its place already."""

    band: Band
    starts: list[int] = field(default_factory=list)
    parts: list[np.ndarray | None] = field(default_factory=list)

    def joined(self) -> np.ndarray:
        return joined(self.starts, [part for part in self.parts if part is not None])


@dataclass
class _Recording:
    samples: int = 0
    # Stretches and windows that are waiting or being computed.
    under_way: int = 0
    refusal: Unusable | None = None
    channels: list[_Channel] = field(default_factory=list)


@dataclass(frozen=True)
class _Row(Row):
    """A stretch that knows whose it is."""

    recording: _Recording


@dataclass(frozen=True)
class _Window(Window):
    """A window that knows where its result belongs: `place` among the windows of its recording's channel."""

    recording: _Recording
    channel: _Channel
    place: int


class HubertTokenizer:
    """Units of a HuBERT layer; see `Tokenizer` for the interface.

    Args:
        network: up to the layer that the quantizer takes.
        quantizer: of its features.
        identity: what the units depend on.
        batch: as for `BatchedNetwork`.
        window_s: length of a window in seconds, at most `SPAN_S`; another than `WINDOW_S` for comparisons.
    """

    sample_rate = SAMPLE_RATE

    def __init__(
        self,
        network: Hubert,
        quantizer: Quantizer,
        identity: Mapping[str, Any],
        batch: int | None = None,
        window_s: int = WINDOW_S,
    ) -> None:
        self.identity = identity
        self.rate = network.architecture.rate
        self.vocabulary = quantizer.units
        self._shape = network.architecture
        self._quantizer = quantizer
        self._window_s = window_s
        self._batched = BatchedNetwork(network, batch, window_s)

    @classmethod
    def load(
        cls,
        directory: Path,
        about: Mapping[str, Any],
        *,
        device: torch.device | str | None = None,
        precision: str | None = None,
        batch: int | None = None,
        window_s: int = WINDOW_S,
    ) -> HubertTokenizer:
        """Load the tokenizer that `import_tokenizer` wrote into `directory`, with its `tokenizer.json` read.

        Args:
            directory: of the tokenizer.
            about: its `tokenizer.json`.
            device: None: a GPU that no other process has taken if there is one, else the CPU.
            precision: another than the tokenizer's own, for comparisons.
            batch: as for `BatchedNetwork`.
            window_s: another length of a window than the tokenizer's own, for comparisons.

        Raises:
            UserError: a file is missing, damaged, or not the one that `tokenizer.json` names, or the units would not
                be those of its identity.
        """
        where = torch.device(own_device() if device is None else device)
        try:
            identity = about["identity"]
            for name, key in ((MODEL, "model_sha256"), (QUANTIZER, "quantizer_sha256")):
                with explained(directory / name, "reading"):
                    if sha256_file(directory / name) != identity[key]:
                        raise ValueError(f"{name} is not the one that its tokenizer.json names")
            tensors = {name: load_file(directory / name) for name in (MODEL, QUANTIZER)}
            shape = Architecture.from_dict(identity["architecture"])
            if {name: tuple(tensor.shape) for name, tensor in tensors[MODEL].items()} != shape.tensors():
                raise ValueError("the weights are not those of its architecture")
            network = Hubert(
                shape,
                tensors[MODEL],
                normalise=identity["normalise"],
                dtype=PRECISIONS[precision or identity["precision"]],
                device=where,
            )
            quantizer = quantizer_of(identity["quantizer"], tensors[QUANTIZER], where)
            if (quantizer.units, quantizer.width) != (identity["vocabulary"], shape.dim):
                raise ValueError("the quantizer does not fit the model")
            check_way(identity, {"rate": shape.rate, "sample_rate": SAMPLE_RATE, **WAY}, directory)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"the tokenizer cannot be read ({error})", where=directory, hint="Import it again"
            ) from error
        return cls(network, quantizer, identity, batch, window_s)

    def encode(self, recordings: Iterable[Iterable[np.ndarray]]) -> Iterator[np.ndarray | Unusable]:
        """Encode recordings; see `Tokenizer.encode`."""
        for recording in self._run(recordings, self._quantizer):
            yield recording.refusal or self._units(recording)

    def _units(self, recording: _Recording) -> np.ndarray:
        count = units_of(recording.samples, self._shape.hop)
        if not count:
            return np.zeros((len(recording.channels), 0), np.int16)
        rows = [without_blanks(channel.joined(), self._quantizer.blank) for channel in recording.channels]
        # What the convolutions do not reach, one or two frames, goes on as the last that they do.
        return np.stack([row[np.minimum(np.arange(count), len(row) - 1)] for row in rows])

    def features(self, recordings: Iterable[Iterable[np.ndarray]]) -> Iterator[np.ndarray | Unusable]:
        """Compute what the quantizer sees of every frame that the convolutions reach.

        Args:
            recordings: as for `encode`.

        Returns:
            For each, in order: float32 `[channels, frames, dim]`, or why it cannot be used.
        """
        nothing = np.zeros((0, self._shape.dim), np.float32)
        for recording in self._run(recordings, torch.Tensor.float):
            rows = [channel.joined() if channel.parts else nothing for channel in recording.channels]
            yield recording.refusal or np.stack(rows)

    def _band(self) -> Band:
        return Band(self.rate, self._batched.network.reach, self._window_s)

    def _run(self, recordings: Iterable[Iterable[np.ndarray]], finish: Finish) -> Iterator[_Recording]:
        """Yield the recordings in order, when `finish` of all their windows is there."""
        queue = _Queue(self._batched, finish)
        waiting: deque[_Recording] = deque()
        for blocks in recordings:
            recording = _Recording()
            waiting.append(recording)
            cutter = Cutter(self._shape, self._batched.network.device, self._window_s)
            try:
                for block in blocks:
                    if not recording.channels:
                        recording.channels = [_Channel(self._band()) for _ in block]
                    queue.add(recording, cutter.add(block))
                queue.add(recording, cutter.finish())
            except Unusable as refusal:
                recording.refusal = refusal
            recording.samples = cutter.samples
            while waiting and not waiting[0].under_way:
                yield waiting.popleft()
        queue.flush()
        yield from waiting


class _Queue:
    """Stretches and windows that wait until there are enough of one shape, and batches that are being computed."""

    def __init__(self, batched: BatchedNetwork, finish: Finish) -> None:
        self._batched = batched
        self._finish = finish
        self._rows: dict[int, list[_Row]] = {}
        # Padded windows are apart: attention that is masked may be another kernel.
        self._windows: dict[tuple[int, bool], list[_Window]] = {}
        self._under_way: deque[tuple[torch.Tensor, Sequence[_Window]]] = deque()

    def add(self, recording: _Recording, stretches: Iterable[Stretch]) -> None:
        for stretch in stretches:
            rows = self._rows.setdefault(stretch.frames, [])
            rows.extend(_Row(stretch, index, recording) for index in range(len(recording.channels)))
            recording.under_way += len(recording.channels)
            size = self._batched.size(stretch.frames)
            while len(rows) >= size:
                self._embed(rows[:size])
                del rows[:size]

    def flush(self) -> None:
        for rows in self._rows.values():
            if rows:
                self._embed(rows)
        self._rows.clear()
        for windows in self._windows.values():
            if windows:
                self._attend(windows)
        self._windows.clear()
        while self._under_way:
            self._collect()

    def _embed(self, rows: Sequence[_Row]) -> None:
        results = self._batched.embedded(rows)
        for row, frames in zip(rows, (frames for result in results for frames in result), strict=False):
            channel, stretch = row.recording.channels[row.channel], row.stretch
            for window in channel.band.add(stretch.start, frames[: stretch.present], last=stretch.last):
                self._add_window(row.recording, channel, window)
            row.recording.under_way -= 1

    def _add_window(self, recording: _Recording, channel: _Channel, window: Window) -> None:
        windows = self._windows.setdefault((window.frames, window.present is not None), [])
        windows.append(_Window(**vars(window), recording=recording, channel=channel, place=len(channel.parts)))
        channel.starts.append(window.start)
        channel.parts.append(None)
        recording.under_way += 1
        size = self._batched.size(window.frames)
        while len(windows) >= size:
            self._attend(windows[:size])
            del windows[:size]

    def _attend(self, windows: Sequence[_Window]) -> None:
        for result in self._batched.features(windows, self._finish):
            self._under_way.append((result, windows[: len(result)]))
            windows = windows[len(result) :]
        ahead = 0 if self._batched.network.device.type == "cpu" else _UNDER_WAY
        while len(self._under_way) > ahead:
            self._collect()

    def _collect(self) -> None:
        result, windows = self._under_way.popleft()
        for window, values in zip(windows, result.cpu().numpy(), strict=False):
            # A copy: a view would keep the whole batch.
            window.channel.parts[window.place] = values[: window.present].copy()
            window.recording.under_way -= 1
