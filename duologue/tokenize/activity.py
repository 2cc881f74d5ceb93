"""Voice activity by the Silero network, over sequences of frames: its weights and results, without its frame loop.

Silero runs frame by frame. Only its LSTM has to: everything before it is computed for many frames at once here, and
the LSTM runs over them in one call, which makes it about ten times as fast.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from duologue.errors import UserError
from duologue.formats.fingerprint import sha256_file

SAMPLE_RATE = 16_000
FRAME = 512
FRAME_S = FRAME / SAMPLE_RATE
# Speech begins at a frame of at least THRESHOLD and ends at one below RELEASE from where SHORTEST_SILENCE_S have gone
# by without another of THRESHOLD: Silero's own rule and defaults, but that nothing is added around the speech.
THRESHOLD = 0.5
RELEASE = 0.35
SHORTEST_SILENCE_S = 0.1
SHORTEST_SPEECH_S = 0.25

_PACKAGE = "silero-vad"
_WEIGHTS = "silero_vad/data/silero_vad.jit"
_CONTEXT = 64
_PAD = 64
_SIZE = 128
# About as fast as any, and small: 8 s.
_FRAMES_AT_ONCE = 252
_NAMES = {
    "stft.forward_basis_buffer": "spectrum.weight",
    **{
        f"encoder.{place}.reparam_conv.{name}": f"convolutions.{place}.{name}"
        for place in range(4)
        for name in ("weight", "bias")
    },
    **{f"decoder.rnn.{name}": f"memory.{name}_l0" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")},
    "decoder.decoder.2.weight": "head.weight",
    "decoder.decoder.2.bias": "head.bias",
}

State = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Activity(Protocol):
    """Says when the channels of a recording are active; Silero's speech where nothing else is asked for."""

    def add(self, block: np.ndarray) -> None:
        """Take the next block: float32 `[2, samples]` at 16 kHz."""
        ...

    def result(self) -> list[np.ndarray]:
        """Return starts and ends in seconds for each channel: float64 `[n, 2]`, in order."""
        ...


class Pieces:
    """Cuts blocks of any sizes into pieces of one size, so that what is computed does not depend on the blocks.

    Args:
        channels: in a block.
        samples: in a piece.
    """

    def __init__(self, channels: int, samples: int) -> None:
        self._samples = samples
        self.rest = np.zeros((channels, 0), np.float32)

    def add(self, block: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the pieces that float32 `[channels, samples]` completes; what is left is in `rest`.

        Raises:
            ValueError: the block is not float32 `[channels, samples]`.
        """
        if block.dtype != np.float32 or block.ndim != 2 or len(block) != len(self.rest):
            raise ValueError(f"a block is {block.dtype} {list(block.shape)}, not float32 [{len(self.rest)}, samples]")
        first = 0
        if self.rest.shape[1]:
            first = min(self._samples - self.rest.shape[1], block.shape[1])
            self.rest = np.concatenate([self.rest, block[:, :first]], axis=1)
            if self.rest.shape[1] == self._samples:
                yield self.rest
                self.rest = self.rest[:, :0]
        while self._samples <= block.shape[1] - first:
            yield block[:, first : first + self._samples]
            first += self._samples
        if first < block.shape[1]:
            # A copy: the block may be one of a buffer that the caller fills again.
            self.rest = block[:, first:].copy()


class _Network(nn.Module):
    """Silero's network for 16 kHz."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrum = nn.Conv1d(1, 2 * 129, 256, stride=128, bias=False)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(inputs, outputs, 3, stride, padding=1)
            for inputs, outputs, stride in ((129, _SIZE, 1), (_SIZE, 64, 2), (64, 64, 2), (64, _SIZE, 1))
        )
        self.memory = nn.LSTM(_SIZE, _SIZE)
        self.head = nn.Conv1d(_SIZE, 1, 1)

    def forward(self, audio: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Return the probability of speech of every frame, and the state behind the last one.

        Args:
            audio: float32 `[channels, frames * 512]`.
            state: the samples before the first frame, `[channels, 64]`, and the LSTM's two, `[1, channels, 128]`.

        Returns:
            float32 `[channels, frames]`, and the state.
        """
        context, *memory = state
        joined = torch.cat([context, audio], dim=1)
        frames = joined.unfold(1, _CONTEXT + FRAME, FRAME)
        channels, count, length = frames.shape
        x = self.spectrum(F.pad(frames.reshape(-1, 1, length), (0, _PAD), "reflect"))
        real, imaginary = x.chunk(2, dim=1)
        x = (real.square() + imaginary.square()).sqrt()
        for convolution in self.convolutions:
            x = convolution(x).relu()
        x, memory = self.memory(x.view(channels, count, _SIZE).transpose(0, 1), tuple(memory))
        probabilities = self.head(x.permute(1, 2, 0).relu()).sigmoid()[:, 0]
        return probabilities, (joined[:, -_CONTEXT:], *memory)


def _weights() -> Path:
    # By the package's list of files: importing it would set the number of threads of the whole process.
    return Path(str(metadata.distribution(_PACKAGE).locate_file(_WEIGHTS)))


@lru_cache(maxsize=1)
def _network() -> _Network:
    path = _weights()
    try:
        tensors = torch.jit.load(str(path), map_location="cpu").state_dict()
        # On no device: there is nothing to draw at random for weights that are replaced.
        with torch.device("meta"):
            network = _Network()
        ours = {name: tensors[f"_model.{silero}"] for silero, name in _NAMES.items()}
        network.load_state_dict(ours, assign=True)
    except (RuntimeError, ValueError, KeyError) as error:
        raise UserError(
            f"the network for voice activity cannot be read ({error})",
            where=path,
            hint="Install Duologue again, with the version of silero-vad that it asks for",
        ) from error
    return network.eval()


@lru_cache(maxsize=1)
def identity() -> dict[str, Any]:
    """Return everything that the voice activity depends on: package, version, weights and settings."""
    return {
        "package": _PACKAGE,
        "version": metadata.version(_PACKAGE),
        "weights_sha256": sha256_file(_weights()),
        "threshold": THRESHOLD,
        "release": RELEASE,
        "shortest_silence_s": SHORTEST_SILENCE_S,
        "shortest_speech_s": SHORTEST_SPEECH_S,
    }


class VoiceActivity:
    """Finds speech in two channels, block by block. It keeps one number for each frame of 32 ms, and 8 s of audio."""

    def __init__(self) -> None:
        self._pieces = Pieces(2, _FRAMES_AT_ONCE * FRAME)
        self._samples = 0
        self._probabilities: list[np.ndarray] = []
        self._state: State = (torch.zeros(2, _CONTEXT), torch.zeros(1, 2, _SIZE), torch.zeros(1, 2, _SIZE))

    def add(self, block: np.ndarray) -> None:
        """Take the next block: float32 `[2, samples]` at 16 kHz.

        Raises:
            UserError: the network cannot be read.
        """
        self._samples += block.shape[-1]
        for piece in self._pieces.add(block):
            probabilities, self._state = self._run(piece)
            self._probabilities.append(probabilities)

    def _run(self, audio: np.ndarray) -> tuple[np.ndarray, State]:
        with torch.inference_mode():
            probabilities, state = _network()(torch.tensor(audio), self._state)
        return probabilities.numpy(), state

    def probabilities(self) -> np.ndarray:
        """Return the probability of speech of every frame so far, float32 `[2, ceil(samples / 512)]`.

        The last frame is filled up with zeros, as Silero does.
        """
        parts = [np.zeros((2, 0), np.float32), *self._probabilities]
        rest = self._pieces.rest
        if rest.shape[1]:
            parts.append(self._run(np.pad(rest, ((0, 0), (0, -rest.shape[1] % FRAME))))[0])
        return np.concatenate(parts, axis=1)

    def result(self) -> list[np.ndarray]:
        """Return starts and ends of speech in seconds for each channel: float64 `[n, 2]`, in order."""
        return [speech(channel, self._samples) / SAMPLE_RATE for channel in self.probabilities()]


def speech(probabilities: np.ndarray, samples: int) -> np.ndarray:
    """Find the stretches of speech of a channel.

    Args:
        probabilities: float32 `[ceil(samples / 512)]`, of speech in each frame.
        samples: length of the channel.

    Returns:
        int64 `[n, 2]`, first sample and the one behind the last. Starts and ends lie at the borders of frames, or at
        the end of the recording.
    """
    loud = np.flatnonzero(probabilities >= THRESHOLD)
    quiet = np.append(np.flatnonzero(probabilities < RELEASE), len(probabilities))
    # Between one loud frame and the next: the first and the last of the quiet ones.
    first = np.searchsorted(quiet, loud)
    last = np.append(first[1:], len(quiet) - 1) - 1
    ends = quiet[first]
    over = (last >= first) & ((quiet[last] - ends) * FRAME_S >= SHORTEST_SILENCE_S)
    if len(loud) and not over[-1]:
        # Still speaking at the end of the recording.
        over[-1], ends[-1] = True, len(probabilities)
    begins = np.roll(over, 1)
    found = np.minimum(np.stack([loud[begins], ends[over]], axis=1) * FRAME, samples)
    return found[found[:, 1] - found[:, 0] > SHORTEST_SPEECH_S * SAMPLE_RATE]
