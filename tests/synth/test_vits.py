from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import soxr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.formats.rejects import Unusable
from duologue.synth import vits_device
from duologue.synth.engine import SAMPLE_RATE, Speech, Utterance, trimmed
from duologue.synth.vits import VitsEngine
from duologue.synth.vits_network import Line, _noise
from tests.far import FAR, Far, on_far
from tests.synth import tiny_vits

TEXTS = [
    "Mm-hm.",
    "Yes.",
    "Hello, how are you?",
    "Is it twenty-four or thirty-one?",
    "I think that most of the people in the world don't know the rules of the game.",
    "F.B.I. agents, you know.",
]


def engine(directory, batch=None):
    return VitsEngine(directory / "model_file.pth", directory / "config.json", licence="Apache-2.0", batch=batch)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tiny_vits.write(tmp_path_factory.mktemp("vits"))


@pytest.fixture(scope="module")
def alone(directory):
    with engine(directory) as made:
        yield made


@pytest.fixture(scope="module")
def batched(directory):
    with engine(directory, batch=8) as made:
        yield made


def utterances(texts=TEXTS, seed=0):
    return [Utterance(text, ("p225", "p226", "p227")[index % 3], seed + index) for index, text in enumerate(texts)]


def spoken(made, asked):
    results = made.synthesize(asked)
    assert all(isinstance(one, Speech) for one in results)
    return results


@pytest.fixture(scope="module")
def speeches(alone):
    """What the six texts sound like, in one call."""
    return spoken(alone, utterances())


def assert_same(one, other, atol=1e-4):
    assert one.audio.shape == other.audio.shape
    np.testing.assert_allclose(one.audio, other.audio, atol=atol)
    assert one.words == other.words


def test_speech_is_audible_and_at_the_rate_of_all_engines(speeches):
    for speech in speeches:
        assert speech.audio.dtype == np.float32 and speech.audio.ndim == 1
        assert SAMPLE_RATE // 20 < len(speech.audio) < 20 * SAMPLE_RATE
        assert 0.1 < np.abs(speech.audio).max() <= 1
        assert np.abs(speech.audio[-200:]).max() > 1e-3, "no zeros are appended"


@settings(max_examples=6)
@given(st.lists(st.tuples(st.sampled_from(TEXTS), st.integers(0, 3), st.integers(0, 2**31)), min_size=2, max_size=5))
def test_a_sentence_in_a_batch_is_as_if_it_were_alone(alone, batched, asked):
    asked = [Utterance(text, alone.voices[voice], seed) for text, voice, seed in asked]
    for one, other in zip(spoken(alone, asked), spoken(batched, asked), strict=True):
        assert_same(one, other)


def test_on_a_cpu_not_one_bit_depends_on_what_else_is_spoken(alone, speeches):
    for asked, speech in list(zip(utterances(), speeches, strict=True))[2:4]:
        assert spoken(alone, [asked])[0].audio.tobytes() == speech.audio.tobytes()


def test_on_a_cpu_not_one_bit_depends_on_the_number_of_threads(alone, speeches):
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        again = spoken(alone, utterances()[:3])
    finally:
        torch.set_num_threads(before)
    for one, other in zip(speeches, again, strict=False):
        assert one.audio.tobytes() == other.audio.tobytes()


def test_two_who_ask_at_once_are_served_one_after_the_other(alone, speeches):
    with ThreadPoolExecutor(2) as pool:
        halves = pool.map(lambda asked: spoken(alone, asked), [utterances()[:3], utterances()[3:]])
        together = [speech for half in halves for speech in half]
    for one, other in zip(speeches, together, strict=True):
        assert one.audio.tobytes() == other.audio.tobytes()


def spoken_twice(directory, device):
    files = directory / "model_file.pth", directory / "config.json"
    with VitsEngine(*files, licence="Apache-2.0", device=device) as made:
        return spoken(made, utterances()), spoken(made, utterances())


def spoken_twice_far(directory):
    with pytest.MonkeyPatch.context() as patch:
        # CUDA's part in it: what its thread says reaches the device as well.
        patch.setattr(vits_device, "ThreadPoolExecutor", partial(ThreadPoolExecutor, initializer=Far().__enter__))
        patch.setattr(torch.cuda, "device", lambda device: nullcontext())
        patch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
        return spoken_twice(directory, FAR)


@pytest.mark.parametrize(
    "twice",
    [
        pytest.param(lambda directory: on_far(spoken_twice_far, directory), id="far"),
        pytest.param(lambda directory: spoken_twice(directory, "cuda"), id="cuda", marks=pytest.mark.gpu),
    ],
)
def test_on_a_device_with_a_memory_of_its_own_lengths_and_words_are_those_of_a_cpu(directory, speeches, twice):
    for one, other, again in zip(speeches, *twice(directory), strict=True):
        assert_same(one, other, atol=1e-3)
        assert other.audio.tobytes() == again.audio.tobytes()


def test_the_same_batches_give_the_same_bits(batched):
    first, second = spoken(batched, utterances()[:4]), spoken(batched, utterances()[:4])
    assert [speech.audio.tobytes() for speech in first] == [speech.audio.tobytes() for speech in second]


@pytest.mark.parametrize("duration_predictor", [True, False])
def test_speech_is_that_of_coquis_own_inference_with_the_same_noise(tmp_path, monkeypatch, duration_predictor):
    made = engine(tiny_vits.write(tmp_path, use_sdp=duration_predictor), batch=4)
    settings_ = tiny_vits.config(use_sdp=duration_predictor)
    settings_.use_phonemes = False
    theirs = tiny_vits.model(settings_)
    asked = utterances()[1:4]
    for utterance, speech in zip(asked, spoken(made, asked), strict=True):
        (tokens,) = made._reader.read([utterance.text])

        def noise(purpose, shape, seed=utterance.seed):
            return _noise(seed, purpose, *shape[1:])[None]

        monkeypatch.setattr(torch, "randn", lambda *shape, noise=noise: noise("durations", shape))
        monkeypatch.setattr(torch, "randn_like", lambda like, noise=noise: noise("prior", like.shape))
        outputs = theirs.inference(
            torch.tensor([tokens.ids]),
            {
                "x_lengths": torch.tensor([len(tokens.ids)]),
                "speaker_ids": torch.tensor([tiny_vits.SPEAKERS.index(utterance.voice)]),
            },
        )
        monkeypatch.undo()
        audio = outputs["model_outputs"][0, 0].numpy()
        assert len(audio) == tiny_vits.HOP * int(outputs["durations"].sum())
        expected = trimmed(np.clip(soxr.resample(audio, tiny_vits.RATE, SAMPLE_RATE), -1, 1)).audio
        assert speech.audio.shape == expected.shape
        np.testing.assert_allclose(speech.audio, expected, atol=1e-4)


def test_words_are_those_of_the_text_in_order_and_inside_the_audio(speeches):
    for asked, speech in zip(utterances(), speeches, strict=True):
        assert " ".join(word.text for word in speech.words) == asked.text
        assert all(word.samples > 0 for word in speech.words)
        assert speech.words[0].start >= 0
        assert speech.words[-1].start + speech.words[-1].samples <= len(speech.audio)
        for one, other in pairwise(speech.words):
            assert one.start + one.samples <= other.start


def test_durations_of_tokens_sum_to_the_length_and_bound_the_words(alone):
    (tokens,) = alone._reader.read([TEXTS[4]])
    line = Line(tokens.ids, 1, 7)
    (prior,) = alone._network.read([line], len(line.ids))
    (audio,) = alone._network.speak([prior], prior.frames)
    assert len(audio) == prior.frames * tiny_vits.HOP
    assert len(prior.durations) == len(tokens.ids)
    assert (prior.durations >= 1).all() and prior.durations.unique().numel() > 2
    ends = np.cumsum(prior.durations.numpy()) * tiny_vits.HOP * SAMPLE_RATE / tiny_vits.RATE
    # What was cut off in front moves the words with the audio.
    speech = alone._speech(audio, tokens, prior)
    heard = np.flatnonzero(np.abs(soxr.resample(audio, tiny_vits.RATE, SAMPLE_RATE)) >= 1e-3)
    cut = max(int(heard[0]) - 160, 0)
    assert [word.start + word.samples for word in speech.words] == [
        round(ends[word.last]) - cut for word in tokens.words
    ]


def test_words_that_are_run_together_are_one(alone):
    (speech,) = spoken(alone, [Utterance("It is in the box.", "p225", 1)])
    assert [word.text for word in speech.words] == ["It", "is", "in the", "box."]


def test_seed_and_voice_decide_the_speech(alone):
    one, again, reseeded, other = spoken(
        alone,
        [
            Utterance(TEXTS[2], "p225", 1),
            Utterance(TEXTS[2], "p225", 1),
            Utterance(TEXTS[2], "p225", 2),
            Utterance(TEXTS[2], "p226", 1),
        ],
    )
    assert one.audio.tobytes() == again.audio.tobytes()
    for changed in (reseeded, other):
        assert one.audio.shape != changed.audio.shape or np.abs(one.audio - changed.audio).max() > 0.01


def test_a_text_without_any_known_symbol_costs_itself_alone(alone):
    none, fine, marks = alone.synthesize(
        [Utterance("", "p225", 1), Utterance("Yes.", "p225", 1), Utterance("?!", "p226", 1)]
    )
    assert isinstance(none, Unusable) and none.reason == "no_known_symbol"
    assert isinstance(marks, Unusable) and marks.reason == "no_known_symbol"
    assert isinstance(fine, Speech)
    assert alone.synthesize([]) == []


def test_too_long_a_text_is_refused_and_the_rest_goes_on(alone):
    long, fine = alone.synthesize([Utterance("many words and " * 300, "p225", 1), Utterance("Yes.", "p225", 1)])
    assert isinstance(long, Unusable) and long.reason == "too_long"
    assert isinstance(fine, Speech)


def test_what_the_configuration_does_not_let_the_model_say_is_refused(tmp_path):
    made = engine(tiny_vits.write(tmp_path, max_inference_len=60))
    short, long = made.synthesize([Utterance("Yes.", "p225", 1), Utterance(TEXTS[4], "p225", 1)])
    assert isinstance(short, Speech)
    assert isinstance(long, Unusable) and long.reason == "too_long"


def test_durations_beyond_all_measure_are_refused(tmp_path):
    made = engine(tiny_vits.write(tmp_path, length_scale=1e9))
    (result,) = made.synthesize([Utterance("Yes.", "p225", 1)])
    assert isinstance(result, Unusable) and result.reason == "too_long"


def test_a_model_of_letters_speaks_and_knows_its_words(tmp_path):
    made = engine(tiny_vits.write(tmp_path, phonemes=False), batch=4)
    text = "Well, Dr. O'Neil said twenty-four of the F.B.I. agents don't know."
    speech, _ = spoken(made, [Utterance(text, "p225", 1), Utterance("Yes.", "p225", 1)])
    assert " ".join(word.text for word in speech.words) == text
    assert len(speech.words) == 11
    (unknown,) = made.synthesize([Utterance("日本", "p225", 1)])
    assert isinstance(unknown, Unusable) and unknown.reason == "no_known_symbol"


def test_bfloat16_has_the_same_lengths_and_stays_near(directory, alone, speeches):
    rough = VitsEngine(
        directory / "model_file.pth", directory / "config.json", licence="Apache-2.0", precision="bfloat16"
    )
    assert rough.identity != alone.identity
    for one, other in zip(speeches, spoken(rough, utterances()[:3]), strict=False):
        # Trimming looks at the samples; before it the lengths are the same.
        assert abs(len(one.audio) - len(other.audio)) < SAMPLE_RATE // 20
        assert np.corrcoef(one.audio[:1_000], other.audio[:1_000])[0, 1] > 0.9
