"""Neural speech: coqui's own loop beside Duologue's, one sentence at a time and in batches, and espeak, in one run.

    python benchmarks/tts.py                          # needs the extra `coqui`; two CPU threads, float32
    python benchmarks/tts.py --model DIR              # a checkpoint and its config.json, such as VCTK's
    python benchmarks/tts.py --device cuda --precision bfloat16 --sentences 400 --singly 50

coqui's way: `TTS(...).tts(text, speaker=..., split_sentences=False)` for each sentence. Ours makes the same sentences
of the same weights, and resamples and trims them as well. They take turns; the median of several runs counts, after a
sentence of each that does not. A rate is hours of audio that come out in an hour; zeros that coqui appends are no
audio. On a CPU, coqui gives a sentence all threads; Duologue gives each sentence one, several at once.

Without --model the architecture is that of coqui's model for VCTK (109 speakers) with random weights, and a duration
predictor set so that a character lasts as long as in speech. Random weights say nothing of the sound, and everything
of time: no layer looks at what it computes. coqui reads phonemes only where the command espeak-ng is installed; where
it is not, both read letters.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import interleaved, machine, parser_of, where
from TTS.api import TTS
from TTS.tts.configs.vits_config import VitsArgs, VitsConfig
from TTS.tts.models.vits import Vits, VitsCharacters
from TTS.utils.synthesizer import PAD_SILENCE_SAMPLES

from duologue import bundled
from duologue.formats.rejects import Unusable
from duologue.manifests.dialogues import write_dialogues
from duologue.manifests.manifest import Manifest
from duologue.manifests.schema import Dialogue
from duologue.synth.coqui import load_coqui
from duologue.synth.engine import SAMPLE_RATE, Engine, Speech, Utterance
from duologue.synth.espeak import EspeakEngine
from duologue.synth.speakable import speakable

COQUIS_RATE = 22_050


def random_model(directory: Path, phonemes: bool) -> None:
    """Write a model of the architecture of coqui's for VCTK, with random weights, as coqui saves it."""
    torch.manual_seed(0)
    characters = VitsCharacters().to_config()
    characters.characters_class = "TTS.tts.models.vits.VitsCharacters"
    config = VitsConfig(
        model_args=VitsArgs(use_speaker_embedding=True, init_discriminator=False),
        use_speaker_embedding=True,
        characters=characters,
        text_cleaner="english_cleaners",
        phonemizer="espeak" if phonemes else None,
        phoneme_language="en" if phonemes else None,
        add_blank=True,
    )
    config.speakers = [f"p{number}" for number in range(109)]
    model = Vits(config)
    with torch.no_grad():
        # Three frames for a token, blanks included: some 70 ms for a character, as people speak.
        model.duration_predictor.flows[0].translation.fill_(-2.1)
        model.duration_predictor.flows[0].log_scale.fill_(1.0)
    config.use_phonemes = phonemes
    config.save_json(str(directory / "config.json"))
    torch.save({"model": model.state_dict()}, directory / "model_file.pth")


def spread(items: list[Any], count: int) -> list[Any]:
    """Return so many items, spread over all of them."""
    return [items[index * len(items) // count] for index in range(count)]


def sentences(count: int, directory: Path) -> list[str]:
    """Return so many sentences of the bundled dialogues, spread over all of them."""
    found = []
    for name, shape, licence in bundled.DIALOGUES:
        out = directory / f"manifest-{name}"
        write_dialogues([str(bundled.directory() / "dialogues" / name)], out, shape=shape, licence=licence)
        for dialogue in Manifest(out).rows():
            assert isinstance(dialogue, Dialogue)
            for turn in dialogue.turns:
                with contextlib.suppress(Unusable):
                    found += [sentence.spoken for sentence in speakable(turn.text)]
    return spread(found, count)


def spoken(engine: Engine, utterances: list[Utterance]) -> list[Speech]:
    """Return what an engine makes of all utterances; none may fail."""
    results = engine.synthesize(utterances)
    assert all(isinstance(one, Speech) for one in results)
    return [one for one in results if isinstance(one, Speech)]


def measure(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Time all ways, compare ours with itself, and return the figures."""
    torch.set_num_threads(options.threads)
    phonemes = shutil.which("espeak-ng") is not None
    model = Path(options.model) if options.model else directory
    if not options.model:
        random_model(model, phonemes)
    (checkpoint,) = model.glob("*.pth") if not options.model else [next(iter(sorted(model.glob("model*.pth"))))]
    with contextlib.redirect_stdout(io.StringIO()):
        coqui = TTS(model_path=str(checkpoint), config_path=str(model / "config.json")).to(options.device)

    def ours(batch: int | None) -> Engine:
        return load_coqui(
            str(checkpoint),
            None,
            licence="Apache-2.0",
            precision=options.precision,
            batch=batch,
            device=options.device,
        )

    alone, batched, espeak = ours(1), ours(options.batch), EspeakEngine()
    texts = sentences(options.sentences, directory)
    asked = [Utterance(text, alone.voices[7 * i % len(alone.voices)], i) for i, text in enumerate(texts)]
    formants = [Utterance(text, espeak.voices[i % len(espeak.voices)], i) for i, text in enumerate(texts)]

    singly = spread(asked, options.singly or len(asked))

    def coquis() -> float:
        seconds = 0.0
        with contextlib.redirect_stdout(io.StringIO()):
            for utterance in singly:
                audio = coqui.tts(utterance.text, speaker=utterance.voice, split_sentences=False)
                seconds += (len(audio) - PAD_SILENCE_SAMPLES) / COQUIS_RATE
        return seconds

    def one_at_a_time() -> list[Speech]:
        return [spoken(alone, [utterance])[0] for utterance in singly]

    ways = {
        "coqui": coquis,
        "one at a time": one_at_a_time,
        "in batches": lambda: spoken(batched, asked),
        "espeak": lambda: spoken(espeak, formants),
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coqui.tts(asked[0].text, speaker=asked[0].voice, split_sentences=False)
    for engine, utterances in ((alone, asked), (batched, asked), (espeak, formants)):
        spoken(engine, utterances[:1])
    seconds, results = interleaved(ways, options.runs)
    audio = {
        name: made if isinstance(made, float) else sum(len(speech.audio) for speech in made) / SAMPLE_RATE
        for name, made in results.items()
    }
    rates = {name: audio[name] / seconds[name] for name in ways}
    of_batches = dict(zip(asked, results["in batches"], strict=True))
    pairs = [(one, of_batches[utterance]) for utterance, one in zip(singly, results["one at a time"], strict=True)]
    same = [len(one.audio) == len(other.audio) for one, other in pairs]
    return {
        "model": options.model or "VITS as for VCTK, 109 speakers, random weights",
        "reads": "phonemes" if phonemes or options.model else "letters: espeak-ng is not installed",
        "precision": options.precision,
        "device": torch.cuda.get_device_name() if options.device != "cpu" else f"CPU, {options.threads} threads",
        "sentences": len(texts),
        "singly": len(singly),
        "batch": options.batch,
        "runs": options.runs,
        "audio_s": {name: round(value, 1) for name, value in audio.items()},
        "hours_per_hour": {name: round(value, 2) for name, value in rates.items()},
        "ratio_to_coqui": {name: round(rates[name] / rates["coqui"], 2) for name in ways},
        "same_length": f"{sum(same)} of {len(same)}",
        "largest_difference": float(
            max(np.abs(one.audio - other.audio).max() for (one, other), fit in zip(pairs, same, strict=True) if fit)
        ),
        **machine("coqui-tts"),
    }


def main() -> int:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--model", help="directory with model*.pth and config.json; random weights without it")
    parser.add_argument("--precision", choices=["float32", "bfloat16", "float16"], default="float32", help="of ours")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    parser.add_argument("--batch", type=int, help="sentences in a batch of ours; by default what the device likes")
    parser.add_argument("--sentences", type=int, default=16, help="of the bundled dialogues")
    parser.add_argument(
        "--singly", type=int, help="so many of them are spoken one by one, by coqui and by ours; by default all"
    )
    parser.add_argument("--runs", type=int, default=3, help="of each, of which the median counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        figures = measure(options, Path(directory))
    if options.json:
        print(json.dumps(figures))
        return 0
    print(f"{figures['model']}, {figures['precision']}; {figures['device']}; reads {figures['reads']}")
    batch = f"{figures['batch']} in a batch" if figures["batch"] else "batches as the device likes them"
    print(
        f"{figures['sentences']} sentences, {figures['singly']} of them one by one, {batch}, "
        f"median of {figures['runs']} runs in turn"
    )
    for name, rate in figures["hours_per_hour"].items():
        print(f"{name:>14} {rate:>10,.2f} h of audio an hour {figures['ratio_to_coqui'][name]:>8,.2f} times coqui")
    print(
        f"in batches {figures['same_length']} sentences are as long as alone; "
        f"the largest difference of a sample is {figures['largest_difference']:.1e}"
    )
    print(where(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
