import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from duologue import bundled
from duologue.formats.audio import read_channels
from duologue.tokenize.tokenizer import directory_of, load_tokenizer

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_embedded_tokenizer.py"


def test_embedded_tokenizer_ships_with_500_units_at_25_hz():
    tokenizer = load_tokenizer("embedded")
    assert (tokenizer.vocabulary, tokenizer.rate, tokenizer.sample_rate) == (500, 25, 16_000)
    about = json.loads((directory_of("embedded") / "tokenizer.json").read_text())
    assert about["fit"]["units_used"] > 450
    assert about["fit"]["perplexity"] > 250
    assert load_file(directory_of("embedded") / "vocoder.safetensors")["log_magnitude"].shape == (500, 257)


def test_units_of_a_real_call_change_as_speech_does():
    call = bundled.directory() / "call" / "auto_repairs.flac"
    channels = read_channels([(call, 0), (call, 1)], 16_000)
    units = next(load_tokenizer("embedded").encode([[channels]]))
    assert units.shape == (2, -(-channels.shape[1] // 640))
    for row in units:
        assert len(np.unique(row)) > 50
        # Mean holding time, in frames.
        assert 1.05 < len(row) / (1 + np.count_nonzero(np.diff(row))) < 4


def test_script_makes_the_embedded_tokenizer_again_byte_for_byte():
    result = subprocess.run([sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1:] == ["the same, byte for byte"], result.stdout + result.stderr
