"""A VITS model of coqui's structure, tiny and with random weights, written as coqui's trainer writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from TTS.tts.configs.shared_configs import CharactersConfig
from TTS.tts.configs.vits_config import VitsArgs, VitsConfig
from TTS.tts.models.vits import Vits, VitsCharacters

# A frame is 8 ms and a letter some 60 ms, as in speech.
RATE, HOP = 8_000, 64
SPEAKERS = ["ED\n", "p227", "p225", "p226"]
PHONEMES = VitsCharacters().to_config()
LETTERS = CharactersConfig(
    characters_class="TTS.tts.utils.text.characters.Graphemes",
    characters="abcdefghijklmnopqrstuvwxyz",
    punctuations="!'(),-.:;? ",
    pad="<PAD>",
    eos="<EOS>",
    bos="<BOS>",
    blank="<BLNK>",
)


def config(*, phonemes: bool = True, **changes: Any) -> VitsConfig:
    args = VitsArgs(
        hidden_channels=16,
        hidden_channels_ffn_text_encoder=24,
        num_layers_text_encoder=2,
        num_layers_posterior_encoder=2,
        num_layers_flow=2,
        upsample_initial_channel_decoder=32,
        upsample_rates_decoder=[4, 4, 2, 2],
        upsample_kernel_sizes_decoder=[8, 8, 4, 4],
        out_channels=513,
        use_speaker_embedding=True,
        speaker_embedding_channels=8,
        init_discriminator=False,
        **changes,
    )
    characters = PHONEMES if phonemes else LETTERS
    if phonemes:
        characters.characters_class = "TTS.tts.models.vits.VitsCharacters"
    made = VitsConfig(
        model_args=args,
        use_speaker_embedding=True,
        characters=characters,
        text_cleaner="english_cleaners",
        phonemizer="espeak" if phonemes else None,
        phoneme_language="en" if phonemes else None,
        add_blank=True,
    )
    made.audio.sample_rate, made.audio.hop_length = RATE, HOP
    made.speakers = SPEAKERS
    return made


def model(made: VitsConfig) -> Vits:
    """Return a model whose weights are as large as training makes them: nothing that it does comes to nothing."""
    torch.manual_seed(0)
    vits = Vits(made).eval()
    with torch.no_grad():
        for name, weight in vits.named_parameters():
            # coqui begins with nothing here; a tenth is audible and keeps durations in bounds.
            if name.startswith(("flow", "duration_predictor")) and not weight.any():
                weight.normal_(0, 0.1)
            if name.startswith("waveform_decoder") and name.endswith(("original0", "conv_pre.weight")):
                weight.mul_(2)
        # Some four frames for a token, more for some and fewer for others.
        affine = getattr(vits.duration_predictor, "flows", [None])[0]
        if affine is not None:
            affine.translation.fill_(-1.2)
            affine.log_scale.fill_(1.0)
        vits.waveform_decoder.conv_post.weight.normal_(0, 0.5)
    return vits


def write(directory: Path, *, phonemes: bool = True, speakers: str | None = "speakers.pth", **changes: Any) -> Path:
    """Write a checkpoint, its configuration and its speakers' file; return the directory."""
    made = config(phonemes=phonemes, **changes)
    vits = model(made)
    directory.mkdir(parents=True, exist_ok=True)
    about = made.to_dict()
    about["use_phonemes"] = phonemes
    if speakers:
        about["speakers"] = []
        # As in published models: the path on the machine that trained it.
        about["model_args"]["speakers_file"] = f"/home/trainer/run/{speakers}"
        numbers = {name: number for number, name in enumerate(SPEAKERS)}
        if speakers.endswith(".json"):
            (directory / speakers).write_text(json.dumps(numbers), encoding="utf-8")
        else:
            torch.save(numbers, directory / speakers)
    (directory / "config.json").write_text(json.dumps(about, indent=4), encoding="utf-8")
    state = {"config": about, "model": vits.state_dict(), "optimizer": {"step": 3}, "step": 3, "date": "then"}
    torch.save(state, directory / "model_file.pth")
    return directory
