"""An XTTS model with random weights, as small as its classes allow (its vocoder is as it is), in coqui's layout."""

import torch
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE
from TTS.config.shared_configs import BaseDatasetConfig
from TTS.tts.configs.xtts_config import XttsArgs, XttsConfig
from TTS.tts.models.xtts import Xtts

VOICES = ("Ana Florence", "Claribel Dervla", "Damien Black")
READS = 60
_SPECIAL = ("[STOP]", "[UNK]", "[SPACE]", "[en]", "[START]")
_LETTERS = "abcdefghijklmnopqrstuvwxyz.,!?'-"


def settings(most=60):
    """Return the configuration of a model that draws up to `most` codes, each 46 ms of speech."""
    args = XttsArgs(
        gpt_layers=1,
        gpt_n_model_channels=64,
        gpt_n_heads=2,
        gpt_max_audio_tokens=most,
        gpt_max_text_tokens=READS,
        gpt_number_text_tokens=len(_SPECIAL) + len(_LETTERS),
        gpt_num_audio_tokens=6,
        gpt_start_audio_token=4,
        gpt_stop_audio_token=5,
        gpt_use_perceiver_resampler=True,
        decoder_input_dim=64,
        d_vector_dim=16,
    )
    return XttsConfig(model_args=args, datasets=[BaseDatasetConfig()], temperature=0.75, repetition_penalty=1.0)


def make_xtts(directory, most=60):
    """Write `config.json`, `model.pth`, `vocab.json` and `speakers_xtts.pth`."""
    torch.manual_seed(1)
    config = settings(most)
    vocabulary = {token: number for number, token in enumerate((*_SPECIAL, *_LETTERS))}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[], unk_token="[UNK]"))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in _SPECIAL])
    tokenizer.save(str(directory / "vocab.json"))
    config.save_json(str(directory / "config.json"))
    config.model_args.gpt_start_text_token = vocabulary["[START]"]
    config.model_args.gpt_stop_text_token = vocabulary["[STOP]"]
    model = Xtts(config)
    # As initialised, the decoder is all but silent, and what it says hardly depends on the text.
    with torch.no_grad():
        model.hifigan_decoder.waveform_decoder.conv_post.weight.mul_(10)
        for weights in model.gpt.parameters():
            weights.mul_(3)
    state = model.state_dict()
    torch.save({"config": config.to_dict(), "model": state}, directory / "model.pth")
    voices = {
        name: {"gpt_cond_latent": torch.randn(1, 32, 64), "speaker_embedding": torch.randn(1, 16, 1)}
        for name in VOICES
    }
    torch.save(voices, directory / "speakers_xtts.pth")
    return directory
