"""A Bark model with random weights, as small as its classes allow, in Hugging Face's layout."""

import json

import numpy as np
import torch
from transformers import BarkConfig, BarkModel, BertTokenizer, EncodecConfig
from transformers.models.bark.configuration_bark import BarkCoarseConfig, BarkFineConfig, BarkSemanticConfig

SEMANTIC, CODES, READS = 8, 16, 48
VOICES = ("v2/en_speaker_0", "v2/en_speaker_1", "v2/en_speaker_2")
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_VOCABULARY = [*_SPECIAL, *".,!?'", *_LETTERS, *_LETTERS.upper(), *(f"##{letter}" for letter in _LETTERS)]


def make_bark(directory, most=80):
    """Write a model that reads 48 letters and says up to `most` semantic tokens at once."""
    torch.manual_seed(1)
    offset, small = SEMANTIC + 4, {"hidden_size": 16, "num_heads": 2, "num_layers": 1, "bias": False, "dropout": 0.0}
    words = offset + len(_VOCABULARY)
    coarse_end = SEMANTIC + 2 * CODES
    model = BarkModel(
        BarkConfig(
            semantic_config=BarkSemanticConfig(
                input_vocab_size=words + 2, output_vocab_size=offset, block_size=READS + most + 1, **small
            ).to_dict(),
            coarse_acoustics_config=BarkCoarseConfig(
                input_vocab_size=coarse_end + 2, output_vocab_size=coarse_end + 2, block_size=128, **small
            ).to_dict(),
            fine_acoustics_config=BarkFineConfig(
                input_vocab_size=CODES + 1, output_vocab_size=CODES + 1, block_size=64, **small
            ).to_dict(),
            codec_config=EncodecConfig(
                target_bandwidths=[6.0], hidden_size=8, num_filters=2, num_lstm_layers=1, codebook_size=CODES
            ).to_dict(),
        )
    )
    # As initialised, what it says would hardly depend on the text or the voice.
    with torch.no_grad():
        for stage, louder in ((model.semantic, 6), (model.coarse_acoustics, 10), (model.fine_acoustics, 10)):
            for weights in stage.parameters():
                weights.mul_(louder)
        for layer in model.codec_model.quantizer.layers:
            layer.codebook.embed.normal_()
    model.save_pretrained(directory)
    generation = {
        "semantic_config": {
            "eos_token_id": SEMANTIC,
            "max_new_tokens": most,
            "do_sample": True,
            "text_encoding_offset": offset,
            "text_pad_token": words,
            "semantic_infer_token": words + 1,
            "semantic_vocab_size": SEMANTIC,
            "max_input_semantic_length": READS,
            "min_eos_p": 0.95,
        },
        "coarse_acoustics_config": {
            "do_sample": True,
            "coarse_semantic_pad_token": coarse_end,
            "coarse_infer_token": coarse_end + 1,
            "max_coarse_input_length": 16,
            "max_coarse_history": 36,
            "sliding_window_len": 60,
        },
        "fine_acoustics_config": {"temperature": 0.5, "max_fine_history_length": 32, "max_fine_input_length": 64},
        "sample_rate": 24_000,
        "codebook_size": CODES,
        "model_type": "bark",
    }
    (directory / "generation_config.json").write_text(json.dumps(generation), "utf-8")
    (directory / "vocab.txt").write_text("\n".join(_VOCABULARY), "utf-8")
    BertTokenizer(str(directory / "vocab.txt"), do_lower_case=False).save_pretrained(directory)
    _make_voices(directory)
    return directory


def _make_voices(directory):
    """Write three English voices, and one that is not English, whose files are not there."""
    (directory / "speaker_embeddings" / "v2").mkdir(parents=True)
    draw = np.random.default_rng(1)
    listed = {"repo_or_path": "suno/bark"}
    for voice in VOICES:
        prompts = {
            "semantic_prompt": draw.integers(SEMANTIC, size=50),
            "coarse_prompt": draw.integers(CODES, size=(2, 75)),
            "fine_prompt": draw.integers(CODES, size=(8, 75)),
        }
        listed[voice] = {part: f"speaker_embeddings/{voice}_{part}.npy" for part in prompts}
        for part, codes in prompts.items():
            np.save(directory / listed[voice][part], codes)
    listed["v2/de_speaker_0"] = {part: f"speaker_embeddings/v2/de_speaker_0_{part}.npy" for part in prompts}
    (directory / "speaker_embeddings_path.json").write_text(json.dumps(listed), "utf-8")
