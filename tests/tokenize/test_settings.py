from argparse import Namespace
from contextlib import suppress
from pickle import dumps

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.errors import UserError
from duologue.tokenize.architecture import Architecture
from duologue.tokenize.settings import of_fairseq, of_hugging_face, parse_conv_layers
from duologue.tokenize.unpickle import Stream, Unpickler
from tests.tokenize.making import hubert

BASE = ((512, 10, 5), *[(512, 3, 2)] * 4, *[(512, 2, 2)] * 2)
HUGGING_FACE = hubert().config.to_dict()


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2", BASE),
        ("[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512, 2, 2)] * 3", (*BASE, (512, 2, 2))),
        ("  [(512,10,5)]+[(512,3,2)]*4+[(512,2,2)]+[(512,2,2)]\n", BASE),
        ("([(512,10,5)] + [(512,3,2)]) * 2", ((512, 10, 5), (512, 3, 2)) * 2),
        ("[(1,2,3), (4,5,6)]", ((1, 2, 3), (4, 5, 6))),
    ],
)
def test_expressions_of_fairseq_are_read(text, layers):
    assert parse_conv_layers(text) == layers


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "[(512,10,5) for _ in range(3)]",
        "[(512,10,5)] * 10 ** 9",
        "[(512,10,5)] * 1000000000",
        "[[(512,10,5)] * 30] * 30",
        "4 * [(512,10,5)]",
        "[(512,10)]",
        "[(512,10,'5')]",
        "[(512,10,True)]",
        "[512]",
        "(512,10,5)",
        "[(512,10,5)] - [(512,10,5)]",
        "[(",
        "[(512,10,5)]" + " + [(512,10,5)]" * 500,
        None,
        7,
    ],
)
def test_everything_else_is_refused_and_not_evaluated(text):
    with pytest.raises((ValueError, SyntaxError)):
        parse_conv_layers(text)


@given(st.text(alphabet="[](),+*0123456789 -x", max_size=60))
def test_any_text_is_read_or_refused(text):
    with suppress(ValueError, SyntaxError):
        assert len(parse_conv_layers(text)) <= 32


def test_what_fairseqs_configuration_leaves_out_is_fairseqs_default():
    architecture, normalise = of_fairseq({"model": {}, "task": {"normalize": True}})
    assert architecture == Architecture(
        conv=BASE,
        conv_norm="group",
        conv_bias=False,
        dim=768,
        heads=12,
        feed=3072,
        layers=12,
        positions=128,
        position_groups=16,
        norm_first=False,
    )
    assert normalise
    assert not of_fairseq({"model": {"conv_pos": 64}, "task": {}})[1]


def test_what_fairseqs_configuration_says_is_taken_from_it():
    model = {
        "conv_feature_layers": "[(64,10,5)] + [(32,3,2)]",
        "extractor_mode": "layer_norm",
        "conv_bias": True,
        "encoder_embed_dim": 48,
        "encoder_attention_heads": 4,
        "encoder_ffn_embed_dim": 96,
        "encoder_layers": 3,
        "conv_pos": 32,
        "conv_pos_groups": 8,
        "layer_norm_first": True,
    }
    conv = ((64, 10, 5), (32, 3, 2))
    assert of_fairseq({"model": model})[0] == Architecture(conv, "layer", True, 48, 4, 96, 3, 32, 8, True)


@pytest.mark.parametrize(
    "change",
    [{"layer_type": "conformer"}, {"activation_fn": "relu"}, {"conv_pos_batch_norm": True}, {"pos_conv_depth": 5}],
)
def test_kinds_of_fairseq_that_would_give_other_features_are_refused(change):
    with pytest.raises(UserError, match=next(iter(change))):
        of_fairseq({"model": change})


def test_flat_arguments_are_read():
    arguments = Namespace(encoder_embed_dim=1024, encoder_attention_heads=16, normalize=True, layer_norm_first=True)
    architecture, normalise = of_fairseq(Unpickler(Stream(dumps(arguments))).load())
    assert (architecture.dim, architecture.norm_first, normalise) == (1024, True, True)


@pytest.mark.parametrize("config", [None, {}, 3, []])
def test_checkpoint_without_a_configuration_is_refused(config):
    with pytest.raises((ValueError, AttributeError)):
        of_fairseq(config)


def test_other_sample_rate_is_refused():
    with pytest.raises(UserError, match="sample_rate 16000"):
        of_fairseq({"model": {}, "task": {"sample_rate": 8000}})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "wavlm"}, "model_type"),
        ({"hidden_act": "relu"}, "hidden_act"),
        ({"feat_extract_activation": "relu"}, "feat_extract_activation"),
        ({"feat_proj_layer_norm": False}, "feat_proj_layer_norm"),
        ({"conv_pos_batch_norm": True}, "conv_pos_batch_norm"),
        ({"adapter_attn_dim": 16}, "adapter_attn_dim"),
        ({"layer_norm_eps": 1e-6}, "layer_norm_eps"),
    ],
)
def test_kinds_of_hugging_face_that_would_give_other_features_are_refused(change, named):
    with pytest.raises(UserError, match=named):
        of_hugging_face({**HUGGING_FACE, **change}, None)


@pytest.mark.parametrize(
    ("norm", "preprocessor", "normalise"),
    [
        ("group", None, False),
        ("group", {"do_normalize": False}, False),
        # What Hugging Face's converter writes for every model, the ones with group norm among them.
        ("group", {"do_normalize": True}, False),
        ("layer", None, True),
        ("layer", {}, True),
        ("layer", {"do_normalize": True}, True),
        ("layer", {"do_normalize": False}, False),
    ],
)
def test_audio_is_normalised_where_the_model_was_trained_so(norm, preprocessor, normalise):
    assert of_hugging_face({**HUGGING_FACE, "feat_extract_norm": norm}, preprocessor)[1] == normalise


def test_what_hugging_faces_configuration_may_lack_is_as_in_the_published_models():
    names = ("hidden_act", "feat_extract_activation", "feat_proj_layer_norm", "conv_pos_batch_norm", "layer_norm_eps")
    plain = {name: value for name, value in HUGGING_FACE.items() if name not in names}
    assert of_hugging_face(plain, None) == of_hugging_face(HUGGING_FACE, None)


def test_preprocessor_of_another_sample_rate_is_refused():
    with pytest.raises(UserError, match="sampling_rate 16000"):
        of_hugging_face(HUGGING_FACE, {"sampling_rate": 8000})


@pytest.mark.parametrize("missing", ["conv_dim", "hidden_size", "do_stable_layer_norm"])
def test_configuration_that_lacks_a_setting_is_refused(missing):
    with pytest.raises(KeyError, match=missing):
        of_hugging_face({name: value for name, value in HUGGING_FACE.items() if name != missing}, None)
