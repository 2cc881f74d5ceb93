"""VITS as coqui builds it, part by part, for batches in which every sentence is as if it were alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.utils import parametrize
from TTS.tts.layers.vits.stochastic_duration_predictor import StochasticDurationPredictor
from TTS.tts.models.vits import Vits

from duologue.formats.seeds import generator
from duologue.synth.vits_decoder import Decoder
from duologue.synth.vits_device import Device

ENDLESS = 1_000_000
"""Frames that stand for a duration which is no number, or beyond all measure."""


@dataclass(frozen=True)
class Line:
    """A sentence to speak: the model's tokens, the number of the speaker, and the seed of what is drawn."""

    ids: tuple[int, ...]
    speaker: int
    seed: int


@dataclass(frozen=True)
class Prior:
    """What the text says of the speech: how many frames each token lasts, and the distribution of its latents.

    Attributes:
        durations: int64 `[tokens]`, frames.
        mean, deviation: float32 `[channels, tokens]`.
    """

    durations: torch.Tensor
    mean: torch.Tensor
    deviation: torch.Tensor
    speaker: int
    seed: int

    @property
    def frames(self) -> int:
        """How long the speech is."""
        return int(self.durations.sum())


class VitsNetwork:
    """The parts of a VITS model that speak.

    The text's part computes in float64: a duration is rounded up to whole frames, and the last bits of float32 differ
    from one shape of batch, and from one device, to another. So a sentence has the same length everywhere.

    Args:
        model: in evaluation mode, with a speaker embedding; it is taken apart and of no use afterwards.
        device: where it computes.
        dtype: of the decoder; the flow computes in float32 always.
    """

    def __init__(self, model: Vits, device: torch.device, dtype: torch.dtype) -> None:
        for module in model.modules():
            if parametrize.is_parametrized(module):
                parametrize.remove_parametrizations(module, "weight")
        self._device = Device(device)
        self._text = model.text_encoder.to(device, torch.float64)
        self._durations = model.duration_predictor.to(device, torch.float64)
        self._flow = model.flow.to(device)
        self._speakers = model.emb_g.weight.detach().to(device)
        self._decoder = Decoder(model.waveform_decoder, device, dtype)
        self._on_speaker = model.args.condition_dp_on_speaker
        self._length_scale = float(model.length_scale)
        self._noise_scale = float(model.inference_noise_scale)
        self._duration_noise_scale = float(model.inference_noise_scale_dp)
        self.hop = self._decoder.hop

    def read(self, lines: Sequence[Line], tokens: int) -> list[Prior]:
        """Compute durations and priors of a batch, padded to `tokens`."""
        ids = torch.stack([_padded(torch.tensor(line.ids), tokens) for line in lines])
        lengths = torch.tensor([len(line.ids) for line in lines])
        speakers = torch.tensor([line.speaker for line in lines])
        noise = torch.stack([_padded(_noise(line.seed, "durations", 2, len(line.ids)), tokens) for line in lines])
        made = self._device.compute(self._prior, ids, lengths, speakers, noise)
        durations, mean, deviation = (each.cpu() for each in made)
        return [
            Prior(
                durations[row, : len(line.ids)].clone(),
                mean[row, :, : len(line.ids)].clone(),
                deviation[row, :, : len(line.ids)].clone(),
                line.speaker,
                line.seed,
            )
            for row, line in enumerate(lines)
        ]

    def speak(self, priors: Sequence[Prior], frames: int) -> list[np.ndarray]:
        """Compute the audio of a batch, padded to `frames`.

        Returns:
            For each float32 `[its frames * hop]` at the model's rate.
        """
        latents = torch.stack([_padded(self._drawn(prior), frames) for prior in priors])
        lengths = [prior.frames for prior in priors]
        speakers = torch.tensor([prior.speaker for prior in priors])
        audio = self._device.compute(
            partial(self._audio, min(lengths)), latents, torch.tensor(lengths), speakers
        ).cpu()
        rows = audio.float().numpy()
        return [row[: length * self.hop].copy() for row, length in zip(rows, lengths, strict=True)]

    def close(self) -> None:
        """Let go of what computes."""
        self._device.close()

    def _prior(
        self, ids: torch.Tensor, lengths: torch.Tensor, speakers: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return durations, means and deviations of a batch."""
        hidden, mean, log_deviation, mask = self._text(ids, lengths)
        condition = self._speakers[speakers].double()[:, :, None]
        log_durations = self._log_durations(hidden, mask, condition, noise.double())
        durations = torch.ceil(torch.exp(log_durations) * mask * self._length_scale)[:, 0]
        durations = durations.nan_to_num(nan=ENDLESS).clamp(max=ENDLESS).long()
        return durations, mean.float(), log_deviation.exp().float()

    def _audio(
        self, shortest: int, latents: torch.Tensor, lengths: torch.Tensor, speakers: torch.Tensor
    ) -> torch.Tensor:
        """Return what the decoder makes of a batch of latents before the flow."""
        places = torch.arange(latents.shape[2], device=latents.device)
        mask = (places < lengths[:, None])[:, None].float()
        voices = self._speakers[speakers]
        latents = self._flow(latents, mask, g=voices[:, :, None], reverse=True)
        return self._decoder(latents * mask, lengths, shortest, voices)

    def _log_durations(
        self, hidden: torch.Tensor, mask: torch.Tensor, speakers: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        """Return `[batch, 1, tokens]`: the predictor of coqui, backwards, from noise `[batch, 2, tokens]`."""
        predictor = self._durations
        condition = speakers if self._on_speaker else None
        if not isinstance(predictor, StochasticDurationPredictor):
            return predictor(hidden, mask, g=condition)
        x = predictor.pre(hidden)
        if condition is not None:
            x = x + predictor.cond(condition)
        x = predictor.proj(predictor.convs(x, mask)) * mask
        z = noise * self._duration_noise_scale
        # The flow next to the affine one changes the half of the noise that is dropped: VITS leaves it out.
        affine, _, *flows = predictor.flows
        for flow in (*reversed(flows), affine):
            z = flow(z.flip(1), mask, g=x, reverse=True)
        return z[:, :1]

    def _drawn(self, prior: Prior) -> torch.Tensor:
        """Return latents before the flow, float32 `[channels, frames]`."""
        noise = _noise(prior.seed, "prior", len(prior.mean), prior.frames) * self._noise_scale
        mean = prior.mean.repeat_interleave(prior.durations, dim=1)
        return mean + noise * prior.deviation.repeat_interleave(prior.durations, dim=1)


def _noise(seed: int, purpose: str, *shape: int) -> torch.Tensor:
    """Draw on the CPU, so that it is the same on every device."""
    return torch.from_numpy(generator(seed, "vits", purpose).standard_normal(shape, dtype=np.float32))


def _padded(x: torch.Tensor, width: int) -> torch.Tensor:
    return F.pad(x, (0, width - x.shape[-1]))
