import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils import parametrize
from TTS.vocoder.models.hifigan_generator import HifiganGenerator

from duologue.synth.vits_decoder import Decoder

CHANNELS, SPEAKER = 6, 5


def generators():
    torch.manual_seed(0)
    # The last one has layers of so many channels that they are computed by Fourier transforms.
    for kind, dilations, channels in (
        ("1", [[1, 3, 5]] * 2, 16),
        ("2", [[1, 3]] * 2, 16),
        ("1", [[1, 3, 5]] * 2, 256),
    ):
        made = HifiganGenerator(
            CHANNELS,
            1,
            kind,
            dilations,
            [3, 7],
            [16, 4],
            channels,
            [8, 2],
            inference_padding=0,
            cond_channels=SPEAKER,
            conv_pre_weight_norm=False,
            conv_post_weight_norm=False,
            conv_post_bias=False,
        ).eval()
        with torch.no_grad():
            made.conv_post.weight.mul_(5)
        yield made


GENERATORS = list(generators())
for module in [module for one in GENERATORS for module in one.modules() if parametrize.is_parametrized(module)]:
    parametrize.remove_parametrizations(module, "weight")


def decoded(decoder: Decoder, latents: list[torch.Tensor], speakers: torch.Tensor, frames: int) -> list[np.ndarray]:
    lengths = [latent.shape[1] for latent in latents]
    batch = torch.stack([torch.nn.functional.pad(latent, (0, frames - latent.shape[1])) for latent in latents])
    audio = decoder(batch, torch.tensor(lengths), min(lengths), speakers)
    assert audio.shape == (len(latents), frames * decoder.hop)
    return [row[: length * decoder.hop].float().numpy() for row, length in zip(audio, lengths, strict=True)]


@pytest.mark.parametrize("generator", GENERATORS)
@settings(max_examples=30)
@given(lengths=st.lists(st.integers(1, 70), min_size=1, max_size=5), beyond=st.integers(0, 40))
def test_each_sentence_sounds_as_coquis_generator_alone(generator, lengths, beyond):
    draw = torch.Generator().manual_seed(sum(lengths))
    latents = [torch.randn(CHANNELS, length, generator=draw) for length in lengths]
    speakers = torch.randn(len(lengths), SPEAKER, generator=draw)
    decoder = Decoder(generator, torch.device("cpu"), torch.float32)
    with torch.inference_mode():
        audio = decoded(decoder, latents, speakers, max(lengths) + beyond)
        for latent, speaker, samples in zip(latents, speakers, audio, strict=True):
            alone = generator(latent[None], speaker[None, :, None])[0, 0].numpy()
            assert samples.shape == alone.shape == (16 * latent.shape[1],)
            np.testing.assert_allclose(samples, alone, atol=1e-5)
    assert max(np.abs(samples).max() for samples in audio) > 0.05


def test_bfloat16_stays_near():
    generator = GENERATORS[0]
    latents, speakers = [torch.randn(CHANNELS, 40), torch.randn(CHANNELS, 25)], torch.randn(2, SPEAKER)
    with torch.inference_mode():
        exact, rough = (
            decoded(Decoder(generator, torch.device("cpu"), dtype), latents, speakers, 48)
            for dtype in (torch.float32, torch.bfloat16)
        )
    for one, other in zip(exact, rough, strict=True):
        assert 0 < np.abs(one - other).max() < 0.1
