import json
import os
import pickle
import shutil

import numpy as np
import pytest
import torch

from duologue.errors import UserError
from duologue.formats.rejects import Unusable
from duologue.synth.engine import Speech, Utterance
from duologue.synth.xtts import XttsEngine
from tests.far import FAR, on_far
from tests.pickles import Malicious
from tests.synth.tiny_xtts import READS, VOICES, make_xtts, settings

UTTERANCES = (
    Utterance("Hello, how are you?", VOICES[0], 1),
    Utterance("Hello, how are you?", VOICES[1], 1),
    Utterance("Yes.", VOICES[0], 1),
    Utterance("Hello, how are you?", VOICES[0], 0),
)


def load(directory, precision="float32", weights="model.pth", device="cpu"):
    return XttsEngine(
        directory / weights, directory / "config.json", licence="LicenseRef-CPML", precision=precision, device=device
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_xtts(tmp_path_factory.mktemp("xtts"))


@pytest.fixture(scope="module")
def engine(model):
    with load(model) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def speech(engine):
    return engine.synthesize(UTTERANCES)


@pytest.fixture
def copy(model, tmp_path):
    """Links to the model's files: to change one, put another in its place."""
    return shutil.copytree(model, tmp_path / "copy", copy_function=os.link)


def put(path, content):
    path.unlink()
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)


def refused(directory):
    with pytest.raises(UserError) as caught:
        load(directory)
    assert caught.value.hint
    return caught.value


def test_the_checkpoint_that_is_named_speaks(engine, copy):
    os.link(copy / "model.pth", copy / "first.pth")
    assert load(copy, weights="first.pth").identity == engine.identity
    state = torch.load(copy / "model.pth")
    weights = next(value for value in state["model"].values() if value.dtype == torch.float32)
    weights += 1
    put(copy / "first.pth", state)
    assert load(copy, weights="first.pth").identity != engine.identity == load(copy).identity


def test_sentences_are_spoken(engine, speech):
    for result in speech:
        assert isinstance(result, Speech) and result.words == ()
        assert result.audio.dtype == np.float32 and result.audio.ndim == 1
        assert 0 < np.abs(result.audio).max() <= 1


def test_the_audio_depends_on_voice_text_and_seed(speech):
    first = speech[0].audio
    for other in speech[1:]:
        assert not np.array_equal(first, other.audio)


def test_neighbours_and_order_do_not_matter(engine, speech):
    for utterance, before in [*zip(UTTERANCES, speech, strict=True)][1::-1]:
        (alone,) = engine.synthesize([utterance])
        assert np.array_equal(alone.audio, before.audio)


def spoken(directory, device):
    with load(directory, device=str(device)) as loaded:
        return loaded.synthesize(UTTERANCES[:2])


def test_a_device_with_a_memory_of_its_own_speaks_as_a_cpu_does(model, speech):
    # It draws from the CPU's generator; a GPU has its own.
    for one, other in zip(speech, on_far(spoken, model, FAR), strict=False):
        np.testing.assert_allclose(one.audio, other.audio, atol=1e-4)


@pytest.mark.gpu
def test_on_a_gpu_the_same_seed_gives_the_same_audio(model):
    for one, again in zip(*(spoken(model, "cuda") for _ in range(2)), strict=True):
        assert isinstance(one, Speech) and np.array_equal(one.audio, again.audio)


def test_the_length_is_that_of_the_codes_at_the_rate_of_the_other_engines(engine, monkeypatch):
    # A code is 1024 samples at 22.05 kHz.
    codes = []
    generate = engine.model.gpt.generate
    monkeypatch.setattr(engine.model.gpt, "generate", lambda **given: codes.append(generate(**given)) or codes[0])
    monkeypatch.setattr("duologue.synth.sequential.trimmed", Speech)
    (speech,) = engine.synthesize(UTTERANCES[:1])
    assert codes[0].shape[1] > 3
    assert len(speech.audio) == pytest.approx(codes[0].shape[1] * 1024 / 22_050 * 16_000, abs=256)


def test_a_text_beyond_what_the_model_reads_is_refused(engine):
    (result,) = engine.synthesize([Utterance("a" * READS, VOICES[0], 1)])
    assert isinstance(result, Unusable) and result.reason == "too_long_for_model"


def test_speech_that_does_not_end_is_refused(engine, monkeypatch):
    monkeypatch.setattr(engine.model.gpt, "max_gen_mel_tokens", 2)
    (result,) = engine.synthesize(UTTERANCES[:1])
    assert isinstance(result, Unusable) and result.reason == "unfinished"


def test_in_half_precision_it_speaks_and_says_so(model, engine):
    with load(model, "bfloat16") as half:
        (result,) = half.synthesize(UTTERANCES[:1])
    assert isinstance(result, Speech)
    assert half.identity != engine.identity


def test_the_voices_are_those_of_the_checkpoint(engine):
    assert engine.voices == VOICES
    assert engine.identity["voices"] == list(VOICES)


def old(directory):
    """Save the checkpoint as published or trained once: with objects of classes that have moved, and more weights."""
    config = settings()
    parts = [type(config.model_args), type(config.audio)]
    homes = [part.__module__ for part in parts]
    state = torch.load(directory / "model.pth", weights_only=True)["model"]
    trained = {f"xtts.{name}": tensor for name, tensor in state.items()}
    for part in parts:
        part.__module__ = "TTS.tts.models.xtts"
    try:
        put(directory / "model.pth", {"config": config, "model": {**trained, "xtts.dvae.codebook": torch.zeros(2)}})
    finally:
        for part, home in zip(parts, homes, strict=True):
            part.__module__ = home


def test_a_checkpoint_of_coquis_trainer_and_with_its_own_objects_is_read_and_left_as_it_is(copy, speech):
    old(copy)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(copy / "model.pth", weights_only=True)
    before = (copy / "model.pth").stat()
    with load(copy) as engine:
        (result,) = engine.synthesize(UTTERANCES[:1])
    assert np.array_equal(result.audio, speech[0].audio)
    after = (copy / "model.pth").stat()
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)


@pytest.mark.parametrize("name", ["model.pth", "speakers_xtts.pth"])
def test_a_pickle_with_code_in_it_is_refused_and_not_run(copy, name):
    put(copy / name, {"model": Malicious(copy / "sprung"), "Ana": Malicious(copy / "sprung")})
    assert refused(copy).where == str(copy / name)
    assert not (copy / "sprung").exists()


@pytest.mark.parametrize("name", ["config.json", "model.pth", "vocab.json", "speakers_xtts.pth"])
def test_a_file_that_is_missing_or_cut_short_is_named(copy, name):
    content = (copy / name).read_bytes()
    (copy / name).unlink()
    assert refused(copy).where == str(copy / name)
    (copy / name).write_bytes(content[: len(content) // 2])
    assert refused(copy).where == str(copy / name)


@pytest.mark.parametrize(
    "voices",
    [
        [],
        {},
        {"Ana": {"gpt_cond_latent": torch.zeros(1, 32, 64), "speaker_embedding": torch.zeros(1, 16, 1)}},
        {
            name: {"gpt_cond_latent": torch.zeros(1, 32, 8), "speaker_embedding": torch.zeros(1, 16, 1)}
            for name in "ab"
        },
        {name: {"gpt_cond_latent": torch.zeros(1, 32, 64), "speaker_embedding": torch.zeros(16)} for name in "ab"},
        {"Ana": torch.zeros(3), "Claribel": torch.zeros(3)},
    ],
)
def test_voices_of_another_model_are_refused(copy, voices):
    put(copy / "speakers_xtts.pth", voices)
    assert refused(copy).where == str(copy / "speakers_xtts.pth")


@pytest.mark.parametrize("state", [None, {}, {"gpt.mel_head.bias": torch.zeros(3)}])
def test_weights_that_are_not_all_there_are_refused(copy, state):
    put(copy / "model.pth", {"model": state})
    assert refused(copy).where == str(copy / "model.pth")


def test_a_vocabulary_without_english_is_refused(copy):
    content = json.loads((copy / "vocab.json").read_text())
    number = content["model"]["vocab"].pop("[en]")
    content["model"]["vocab"]["[de]"] = number
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] != "[en]"]
    put(copy / "vocab.json", json.dumps(content).encode())
    assert "[en]" in str(refused(copy))
