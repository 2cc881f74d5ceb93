import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from duologue.errors import UserError
from duologue.formats.rejects import Unusable
from duologue.synth.bark import load_bark
from duologue.synth.engine import Speech, Utterance
from tests.far import FAR, on_far
from tests.pickles import Malicious
from tests.synth.tiny_bark import CODES, VOICES, make_bark

TEXTS = ("Hello, how are you?", "Yes.", "It is nice outside, isn't it?", "mm-hm")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_bark(tmp_path_factory.mktemp("bark"))


def load(directory, precision="float32", batch=None, device="cpu"):
    return load_bark(str(directory), licence="MIT", precision=precision, batch=batch, device=device)


@pytest.fixture(scope="module")
def engine(model):
    with load(model) as loaded:
        yield loaded


@pytest.fixture
def copy(model, tmp_path):
    return shutil.copytree(model, tmp_path / "copy")


def refused(directory):
    with pytest.raises(UserError) as caught:
        load(directory)
    assert caught.value.hint
    return str(caught.value)


def same(one, other):
    return np.array_equal(one.audio, other.audio)


def test_every_sentence_is_spoken(engine):
    results = engine.synthesize(
        [
            Utterance(text, voice, seed)
            for seed, (text, voice) in enumerate(zip(TEXTS, [*VOICES, VOICES[0]], strict=True))
        ]
    )
    for speech in results:
        assert isinstance(speech, Speech) and speech.words == ()
        assert speech.audio.dtype == np.float32 and speech.audio.ndim == 1
        assert 0 < np.abs(speech.audio).max() <= 1


def test_the_length_is_that_of_the_tokens_at_the_rate_of_the_other_engines(engine, monkeypatch):
    # 75 frames of the codec are a second, at 24 kHz before and at 16 kHz after.
    frames = []
    decode = engine.model.codec_decode
    monkeypatch.setattr(engine.model, "codec_decode", lambda codes: frames.append(codes.shape[-1]) or decode(codes))
    monkeypatch.setattr("duologue.synth.sequential.trimmed", lambda audio: Speech(audio))
    (speech,) = engine.synthesize([Utterance(TEXTS[0], VOICES[0], 3)])
    assert frames[0] > 3
    assert len(speech.audio) == round(frames[0] / 75 * 16_000)


def test_the_same_seed_gives_the_same_audio_and_another_seed_another(engine):
    one, again, other = engine.synthesize([Utterance(TEXTS[0], VOICES[0], seed) for seed in (1, 1, 2)])
    assert same(one, again)
    assert not same(one, other)


def test_the_audio_depends_on_voice_and_text(engine):
    one, voice, text = engine.synthesize(
        [Utterance(TEXTS[0], VOICES[0], 1), Utterance(TEXTS[0], VOICES[1], 1), Utterance(TEXTS[2], VOICES[0], 1)]
    )
    assert not same(one, voice)
    assert not same(one, text)


def test_neighbours_and_order_do_not_matter(engine):
    utterances = [Utterance("Yes.", VOICES[0], 1), Utterance("mm-hm", VOICES[1], 3)]
    together = engine.synthesize(utterances)
    backwards = engine.synthesize(utterances[::-1])[::-1]
    for utterance, one, other in zip(utterances, together, backwards, strict=True):
        assert same(one, other) and same(one, engine.synthesize([utterance])[0])


def spoken(directory, device):
    with load(directory, device=str(device)) as loaded:
        return loaded.synthesize([Utterance(text, voice, 1) for text, voice in zip(TEXTS, VOICES, strict=False)])


def test_a_device_with_a_memory_of_its_own_speaks_as_a_cpu_does(model):
    # It draws from the CPU's generator; a GPU has its own.
    for one, other in zip(spoken(model, "cpu"), on_far(spoken, model, FAR), strict=True):
        np.testing.assert_allclose(one.audio, other.audio, atol=1e-4)


@pytest.mark.gpu
def test_on_a_gpu_the_same_seed_gives_the_same_audio(model):
    for one, again in zip(*(spoken(model, "cuda") for _ in range(2)), strict=True):
        assert isinstance(one, Speech) and np.array_equal(one.audio, again.audio)


def test_the_generators_of_the_caller_are_left_as_they_were(engine):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    engine.synthesize([Utterance("Yes.", VOICES[0], 1)])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_text_beyond_what_the_model_reads_is_refused_and_the_next_goes_on(engine):
    long, short = engine.synthesize([Utterance("word " * 20, VOICES[0], 1), Utterance("Yes.", VOICES[0], 1)])
    assert isinstance(long, Unusable) and long.reason == "too_long_for_model"
    assert isinstance(short, Speech)


def test_speech_that_does_not_end_is_refused(tmp_path):
    with load(make_bark(tmp_path, most=2)) as engine:
        results = engine.synthesize([Utterance("Yes.", VOICES[0], seed) for seed in range(8)])
    reasons = [result.reason for result in results if isinstance(result, Unusable)]
    assert "unfinished" in reasons
    assert set(reasons) <= {"unfinished", "silent"}


def test_in_half_precision_it_speaks_and_says_so(model, engine):
    with load(model, "bfloat16") as half:
        (speech,) = half.synthesize([Utterance(TEXTS[0], VOICES[0], 1)])
    assert isinstance(speech, Speech)
    assert half.identity != engine.identity


def test_the_voices_are_the_english_presets_of_the_list(engine):
    assert engine.voices == VOICES
    assert engine.identity["voices"] == list(VOICES)


def test_the_identity_is_that_of_the_files_not_of_their_place(engine, copy):
    with load(copy) as moved:
        assert moved.identity == engine.identity
    codes = np.load(copy / "speaker_embeddings" / "v2" / "en_speaker_0_coarse_prompt.npy")
    np.save(copy / "speaker_embeddings" / "v2" / "en_speaker_0_coarse_prompt.npy", (codes + 1) % CODES)
    with load(copy) as other:
        assert other.identity != engine.identity


def test_pickled_weights_as_the_hub_has_them_speak_the_same(engine, copy):
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with load(copy) as pickled:
        (one,) = pickled.synthesize([Utterance(TEXTS[0], VOICES[0], 1)])
    (other,) = engine.synthesize([Utterance(TEXTS[0], VOICES[0], 1)])
    assert same(one, other)


def test_a_pickle_with_code_in_it_is_refused_and_not_run(copy):
    torch.save({"weight": Malicious(copy / "sprung")}, copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    assert "cannot be loaded" in refused(copy)
    assert not (copy / "sprung").exists()


def test_a_voice_with_a_pickle_in_it_is_refused_and_not_run(copy):
    path = copy / "speaker_embeddings" / "v2" / "en_speaker_0_fine_prompt.npy"
    np.save(path, np.array([Malicious(copy / "sprung")], dtype=object), allow_pickle=True)
    assert "voice" in refused(copy)
    assert not (copy / "sprung").exists()


@pytest.mark.parametrize(
    ("part", "codes"),
    [
        ("semantic_prompt", np.array([[1, 2]])),
        ("semantic_prompt", np.array([], dtype=int)),
        ("semantic_prompt", np.array([1.0])),
        ("semantic_prompt", np.array([99])),
        ("coarse_prompt", np.full((3, 75), 1)),
        ("coarse_prompt", np.full((2, 75), CODES)),
        ("fine_prompt", np.full((8, 75), -1)),
    ],
)
def test_a_voice_of_another_model_is_refused(copy, part, codes):
    np.save(copy / "speaker_embeddings" / "v2" / f"en_speaker_1_{part}.npy", codes)
    assert "voice" in refused(copy)


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret.npy", "speaker_embeddings/../../secret.npy"])
def test_a_voice_outside_the_model_is_refused(copy, name):
    listed = json.loads((copy / "speaker_embeddings_path.json").read_text())
    listed[VOICES[0]]["fine_prompt"] = name
    (copy / "speaker_embeddings_path.json").write_text(json.dumps(listed))
    assert "outside" in refused(copy)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"v2/en_speaker_0": {}}', '{"v2/en_speaker_0": 1}'])
def test_a_list_without_voices_is_refused(copy, content):
    (copy / "speaker_embeddings_path.json").write_text(content)
    assert "voices" in refused(copy)


@pytest.mark.parametrize(
    "name",
    ["config.json", "generation_config.json", "model.safetensors", "speaker_embeddings_path.json", "tokenizer.json"],
)
def test_a_file_that_is_missing_is_named(copy, name):
    for path in (copy / name, copy / "vocab.txt"):
        path.unlink()
    assert name.removeprefix("model") in refused(copy)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"])
def test_a_file_cut_short_is_refused(copy, name):
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: len(content) // 2])
    refused(copy)


def test_weights_that_are_not_all_there_are_refused(copy):
    weights = load_file(copy / "model.safetensors")
    save_file(
        {name: tensor for name, tensor in weights.items() if "fine_acoustics.layers" not in name},
        copy / "model.safetensors",
        {"format": "pt"},
    )
    assert "missing" in refused(copy)


def test_a_directory_that_is_not_there_is_refused(tmp_path):
    assert "no such directory" in refused(tmp_path / "none")


def test_a_licence_is_asked_for_unless_the_model_card_has_it(copy):
    ask = {"licence": None, "precision": "float32", "batch": None, "device": "cpu"}
    with pytest.raises(UserError) as caught:
        load_bark(str(copy), **ask)
    assert "--licence" in caught.value.hint
    (copy / "README.md").write_text("---\nlicense: mit\n---\n", "utf-8")
    assert load_bark(str(copy), **ask).licence == "MIT"


def test_batches_are_refused(model):
    with pytest.raises(UserError) as caught:
        load(model, batch=4)
    assert caught.value.where == "--batch"
