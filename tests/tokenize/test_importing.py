import json
import shutil

import joblib
import numpy as np
import pytest
import torch
import torchaudio
from huggingface_hub import constants
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from duologue.errors import UserError
from duologue.formats.fingerprint import sha256_file
from duologue.formats.temporary import temporary_name
from duologue.tokenize.architecture import Architecture
from duologue.tokenize.directory import make_ready
from duologue.tokenize.importing import import_tokenizer
from duologue.tokenize.tokenizer import directory_of, load_tokenizer
from tests.pickles import Disguised, Malicious
from tests.tokenize.making import DIM, UNITS, hubert, kmeans, save_hugging_face
from tests.tokenize.signals import sound

AUDIO = sound(4 * 16_000 + 400, seed=1)
NAMES = ["model.safetensors", "quantizer.safetensors", "tokenizer.json"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A directory with the model `base` and the quantizer `km.bin`."""
    directory = tmp_path_factory.mktemp("made")
    save_hugging_face(hubert(), directory / "base", do_normalize=False)
    joblib.dump(kmeans(), directory / "km.bin")
    return directory


@pytest.fixture
def copy(made, tmp_path):
    """A copy of the model `base`, to be changed."""
    return shutil.copytree(made / "base", tmp_path / "base")


def imported(checkpoint, made, out, layer=2, **options) -> dict:
    return import_tokenizer(str(checkpoint), str(made / "km.bin"), out, layer=layer, **options)


def features_of(directory) -> np.ndarray:
    return next(iter(load_tokenizer(directory).features([[AUDIO[None]]])))[0]


def refusal(checkpoint, made, out, **options) -> UserError:
    with pytest.raises(UserError) as caught:
        imported(checkpoint, made, out, **options)
    assert caught.value.hint
    assert not out.exists()
    return caught.value


def hidden_states(model, audio: np.ndarray, do_normalize: bool) -> list[np.ndarray]:
    """Return what goes into the first layer and comes out of each, of Hugging Face's own."""
    outputs: list[np.ndarray] = []
    for layer in model.encoder.layers:
        layer.register_forward_hook(lambda _, __, output: outputs.append(output[0].numpy()))
    values = torch.from_numpy(audio)[None]
    if do_normalize:
        values = torch.nn.functional.layer_norm(values, values.shape[1:])
    with torch.inference_mode():
        states = model(values, output_hidden_states=True).hidden_states
    return [states[0][0].numpy(), *outputs]


@pytest.mark.parametrize(
    ("shape", "rate", "do_normalize"),
    [("base", 50, False), ("25 Hz", 25, False), ("large", 50, True), ("large", 50, False)],
)
def test_features_and_units_are_those_of_hugging_face(tmp_path, made, shape, rate, do_normalize):
    model = hubert(shape)
    save_hugging_face(model, tmp_path / "model", do_normalize=do_normalize)
    states = hidden_states(model, AUDIO, do_normalize)
    for layer in (1, 2, 3):
        out = tmp_path / str(layer)
        identity = imported(tmp_path / "model", made, out, layer)["identity"]
        assert (identity["rate"], identity["normalise"]) == (rate, do_normalize)
        got = features_of(out)
        assert got.shape == states[layer].shape
        assert np.abs(got - states[layer]).max() <= 1e-5
        units = next(iter(load_tokenizer(out).encode([[AUDIO[None]]])))[0]
        assert units[: len(got)].tolist() == kmeans().predict(states[layer].astype(np.float64)).tolist()


def test_preprocessor_that_is_not_believed_is_told(tmp_path, made, capsys):
    save_hugging_face(hubert(), tmp_path / "base", do_normalize=True)
    assert not imported(tmp_path / "base", made, tmp_path / "out")["identity"]["normalise"]
    assert "not normalised" in capsys.readouterr().err
    imported(made / "base", made, tmp_path / "believed")
    assert "not normalised" not in capsys.readouterr().err


def test_what_is_written_is_what_is_said(tmp_path, made):
    about = imported(made / "base", made, tmp_path / "out", precision="bfloat16")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == NAMES
    assert json.loads((tmp_path / "out" / "tokenizer.json").read_text()) == about
    identity, origin = about["identity"], about["origin"]
    assert (about["kind"], identity["vocabulary"], identity["layer"]) == ("hubert", UNITS, 2)
    assert (identity["precision"], identity["quantizer"]) == ("bfloat16", {"kind": "kmeans"})
    for name in ("model", "quantizer"):
        assert identity[f"{name}_sha256"] == sha256_file(tmp_path / "out" / f"{name}.safetensors")
    assert origin == {
        "checkpoint": "base",
        "checkpoint_sha256": sha256_file(made / "base" / "model.safetensors"),
        "quantizer": "km.bin",
        "quantizer_sha256": sha256_file(made / "km.bin"),
        "format": "hugging-face",
    }
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    expected = Architecture.from_dict(identity["architecture"]).tensors()
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == expected
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
    assert str(tmp_path) not in json.dumps(about)


def test_the_same_files_give_the_same_bytes(tmp_path, made):
    for name in ("once", "again"):
        imported(made / "base", made, tmp_path / name)
    for name in NAMES:
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def as_pickled(directory, change=lambda state: state, new=True):
    """Turn a directory into one with pytorch_model.bin."""
    path = directory / "model.safetensors"
    torch.save(change(load_file(path)), directory / "pytorch_model.bin", _use_new_zipfile_serialization=new)
    path.unlink()
    return directory


def with_old_names(state):
    def old(name):
        name = name.replace("parametrizations.weight.original0", "weight_g")
        return "hubert." + name.replace("parametrizations.weight.original1", "weight_v")

    return {old(name): tensor for name, tensor in state.items()} | {"lm_head.weight": torch.zeros(3, DIM)}


def test_the_same_weights_have_one_identity_in_every_file(tmp_path, made, copy):
    identity = imported(made / "base", made, tmp_path / "0")["identity"]
    assert imported(as_pickled(copy), made, tmp_path / "1")["identity"] == identity
    old = shutil.copytree(made / "base", tmp_path / "old")
    assert imported(as_pickled(old, with_old_names, new=False), made, tmp_path / "2")["identity"] == identity
    prefixed = shutil.copytree(made / "base", tmp_path / "prefixed")
    save_file(with_old_names(load_file(made / "base" / "model.safetensors")), prefixed / "model.safetensors")
    assert imported(prefixed, made, tmp_path / "3")["identity"] == identity


def torchaudio_of(*, large: bool, width: int, heads: int, layers: int):
    torch.manual_seed(0)
    model = torchaudio.models.wav2vec2_model(
        extractor_mode="layer_norm" if large else "group_norm",
        extractor_conv_layer_config=[(32, 10, 5), *[(32, 3, 2)] * 4, *[(32, 2, 2)] * 2],
        extractor_conv_bias=large,
        encoder_embed_dim=width,
        encoder_projection_dropout=0.0,
        encoder_pos_conv_kernel=16,
        encoder_pos_conv_groups=16,
        encoder_num_layers=layers,
        encoder_num_heads=heads,
        encoder_attention_dropout=0.0,
        encoder_ff_interm_features=64,
        encoder_ff_interm_dropout=0.0,
        encoder_dropout=0.0,
        encoder_layer_norm_first=large,
        encoder_layer_drop=0.0,
        aux_num_out=None,
    )
    return model.eval()


@pytest.fixture(scope="module")
def torchaudio_model():
    return torchaudio_of(large=False, width=768, heads=12, layers=3)


# Alone, and inside the model that torchaudio trains, beside what only training needs.
@pytest.mark.parametrize(("new", "prefix", "more"), [(True, "", {}), (False, "wav2vec2.", {"aux": torch.zeros(2)})])
def test_torchaudio_state_gives_torchaudios_features(tmp_path, torchaudio_model, new, prefix, more):
    state = {f"{prefix}{name}": tensor for name, tensor in torchaudio_model.state_dict().items()} | more
    torch.save(state, tmp_path / "state.pt", _use_new_zipfile_serialization=new)
    np.save(tmp_path / "km.npy", kmeans(768).cluster_centers_)
    with torch.inference_mode():
        wanted = torchaudio_model.extract_features(torch.from_numpy(AUDIO)[None])[0]
    for layer in (1, 3):
        out = tmp_path / str(layer)
        about = import_tokenizer(str(tmp_path / "state.pt"), str(tmp_path / "km.npy"), out, layer=layer)
        assert about["origin"]["format"] == "torchaudio"
        assert np.abs(features_of(out) - wanted[layer - 1][0].numpy()).max() <= 1e-5


def test_large_torchaudio_state_with_the_names_of_the_published_ones_gives_torchaudios_features(tmp_path):
    model = torchaudio_of(large=True, width=1024, heads=16, layers=1)
    audio = torch.from_numpy(AUDIO)[None]
    with torch.inference_mode():
        (wanted,), _ = model.extract_features(torch.nn.functional.layer_norm(audio, audio.shape))
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    state = model.state_dict()
    for name in list(state):
        for now, then in old.items():
            if name.endswith(now):
                state[name.replace(now, then)] = state.pop(name)
    assert sum(name.endswith(("weight_g", "weight_v")) for name in state) == 2
    torch.save(state, tmp_path / "state.pt")
    np.save(tmp_path / "km.npy", np.zeros((2, 1024), np.float32))
    about = import_tokenizer(str(tmp_path / "state.pt"), str(tmp_path / "km.npy"), tmp_path / "out", layer=1)
    assert about["identity"]["normalise"]
    assert np.abs(features_of(tmp_path / "out") - wanted[0].numpy()).max() <= 1e-5


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("encoder.transformer.pos_conv_embed.conv.parametrizations.weight.original1", (96, 6, 16)),
        ("feature_extractor.conv_layers.1.conv.weight", (32, 32, 4)),
    ],
)
def test_torchaudio_state_of_an_unknown_width_or_kernel_is_refused(tmp_path, made, torchaudio_model, name, shape):
    state = torchaudio_model.state_dict()
    assert name in state
    torch.save({**state, name: torch.zeros(shape)}, tmp_path / "state.pt")
    assert "no published model" in refusal(tmp_path / "state.pt", made, tmp_path / "out").what


def test_linear_quantizer_gives_the_units_of_its_network_and_no_blank(tmp_path, made):
    torch.manual_seed(0)
    layers = [torch.nn.Linear(DIM, 40), torch.nn.Linear(40, 30), torch.nn.Linear(30, 6)]
    network = torch.nn.Sequential(layers[0], torch.nn.LeakyReLU(), layers[1], torch.nn.LeakyReLU(), layers[2])
    cfg = {"vocab_size": 5, "dim": DIM, "upstream_dim": DIM}
    with torch.no_grad():
        wanted = network(torch.from_numpy(hidden_states(hubert(), AUDIO, False)[2])).numpy()
        # As many blanks as not.
        layers[2].bias[5] += float(np.median(wanted[:, :5].max(axis=1) - wanted[:, 5]))
        wanted = network(torch.from_numpy(hidden_states(hubert(), AUDIO, False)[2])).argmax(dim=1).tolist()
    assert 5 in wanted[1:]
    torch.save({"model_cfg": cfg, "model_weight": network.state_dict()}, tmp_path / "linear.pt")
    about = import_tokenizer(str(made / "base"), str(tmp_path / "linear.pt"), tmp_path / "out", layer=2)
    assert about["identity"]["vocabulary"] == 6
    assert about["identity"]["quantizer"] == {"kind": "linear", "blank": 5, "slope": 0.01}
    last = next(unit for unit in wanted if unit != 5)
    for place, unit in enumerate(wanted):
        wanted[place] = last = last if unit == 5 else unit
    units = next(iter(load_tokenizer(tmp_path / "out").encode([[AUDIO[None]]])))[0]
    assert units[: len(wanted)].tolist() == wanted


def test_tokenizer_that_was_imported_for_other_windows_is_refused(tmp_path, made):
    imported(made / "base", made, tmp_path / "out")
    path = tmp_path / "out" / "tokenizer.json"
    about = json.loads(path.read_text())
    # As it was before positions saw beyond a window: the same identity would stand for other units.
    del about["identity"]["window"]["positions"]
    path.write_text(json.dumps(about))
    with pytest.raises(UserError, match="another window") as caught:
        load_tokenizer(tmp_path / "out")
    assert caught.value.where == str(path)


@pytest.mark.parametrize(("name", "value"), [("conv_bias", True), ("feed", 65), ("layers", 1), ("positions", 8)])
def test_weights_that_are_not_of_the_described_architecture_are_refused(tmp_path, made, name, value):
    imported(made / "base", made, tmp_path / "out")
    path = tmp_path / "out" / "tokenizer.json"
    about = json.loads(path.read_text())
    about["identity"]["architecture"][name] = value
    path.write_text(json.dumps(about))
    with pytest.raises(UserError, match="not those of its architecture"):
        load_tokenizer(tmp_path / "out")


@pytest.mark.parametrize("name", ["model.safetensors", "quantizer.safetensors"])
def test_what_the_system_refuses_to_read_of_a_tokenizer_is_told_as_it_is(tmp_path, made, name):
    imported(made / "base", made, tmp_path / "out")
    (tmp_path / "out" / name).unlink()
    (tmp_path / "out" / name).symlink_to(name)
    with pytest.raises(UserError, match="a link leads back to itself"):
        load_tokenizer(tmp_path / "out")


@pytest.mark.parametrize("layer", [0, -1, -7])
def test_layers_are_counted_from_1(tmp_path, made, layer):
    error = refusal(made / "base", made, tmp_path / "out", layer=layer)
    assert "counted from 1" in error.what


def test_layer_that_the_model_does_not_have_is_refused(tmp_path, made):
    error = refusal(made / "base", made, tmp_path / "out", layer=4)
    assert error.what == "there is no layer 4: the model has 3"


def test_precision_that_is_none_is_refused(tmp_path, made):
    assert "float32 or bfloat16" in refusal(made / "base", made, tmp_path / "out", precision="float16").what


def test_quantizer_of_another_width_is_refused(tmp_path, made):
    np.save(tmp_path / "km.npy", np.zeros((5, 64), np.float32))
    with pytest.raises(UserError, match="64 numbers a centroid, the model 48") as caught:
        import_tokenizer(str(made / "base"), str(tmp_path / "km.npy"), tmp_path / "out", layer=1)
    assert caught.value.where.endswith("km.npy")
    assert not (tmp_path / "out").exists()


def test_checkpoint_and_quantizer_swapped_are_told(tmp_path, made, torchaudio_model):
    torch.save({"cluster_centers": torch.zeros(5, 4), "n_clusters": 5}, tmp_path / "km.pt")
    assert "quantizer, not a checkpoint" in refusal(tmp_path / "km.pt", made, tmp_path / "out").what
    assert "--quantizer" in refusal(made / "km.bin", made, tmp_path / "out").hint
    torch.save(torchaudio_model.state_dict(), tmp_path / "state.pt")
    with pytest.raises(UserError, match="checkpoint"):
        import_tokenizer(str(made / "base"), str(tmp_path / "state.pt"), tmp_path / "out", layer=1)


def test_directory_that_lacks_a_part_is_refused(tmp_path, made, copy):
    (copy / "model.safetensors").unlink()
    assert "no model.safetensors" in refusal(copy, made, tmp_path / "out").what
    (copy / "config.json").unlink()
    assert "no config.json" in refusal(copy, made, tmp_path / "out").what


def test_weights_without_their_configuration_are_refused(tmp_path, made, copy):
    as_pickled(copy)
    error = refusal(copy / "pytorch_model.bin", made, tmp_path / "out")
    assert "without their configuration" in error.what
    error = refusal(made / "base" / "model.safetensors", made, tmp_path / "out")
    assert "no checkpoint that Duologue knows" in error.what
    assert "directory" in error.hint


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "preprocessor_config.json"])
def test_git_lfs_pointer_is_told(tmp_path, made, copy, name):
    (copy / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n")
    error = refusal(copy, made, tmp_path / "out")
    assert "Git LFS pointer" in error.what
    assert error.where == str(copy / name)


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b"\xff", b'{"model_type": "hubert"}'])
def test_damaged_configuration_is_refused(tmp_path, made, copy, content):
    (copy / "config.json").write_bytes(content)
    assert refusal(copy, made, tmp_path / "out").where == str(copy / "config.json")


@pytest.mark.parametrize(
    ("setting", "value"),
    [("intermediate_size", 65), ("hidden_size", 52), ("conv_bias", True), ("num_hidden_layers", 5)],
)
def test_weights_of_another_model_than_the_configuration_are_refused(tmp_path, made, copy, setting, value):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, setting: value}))
    np.save(tmp_path / "km.npy", np.zeros((5, value if setting == "hidden_size" else DIM), np.float32))
    # The layer is one that the configuration has.
    layer = value if setting == "num_hidden_layers" else 1
    with pytest.raises(UserError, match=r"has the shape|lack") as caught:
        import_tokenizer(str(copy), str(tmp_path / "km.npy"), tmp_path / "out", layer=layer)
    assert caught.value.where == str(copy)
    assert not (tmp_path / "out").exists()


def test_weights_that_are_no_numbers_are_refused(tmp_path, made, copy):
    def broken(state):
        state["encoder.layers.0.feed_forward.output_dense.bias"][3] = float("nan")
        return state

    error = refusal(as_pickled(copy, broken), made, tmp_path / "out")
    assert error.what == "layers.0.feed.down.bias holds infinities or NaN"


@pytest.mark.parametrize("evil", [Malicious, Disguised])
@pytest.mark.parametrize("new", [True, False])
def test_code_in_a_checkpoint_is_refused_and_never_run(tmp_path, made, copy, evil, new):
    marker = tmp_path / "marker"
    as_pickled(copy, lambda state: {**state, "extra": evil(marker)}, new)
    assert "posix.system" in refusal(copy, made, tmp_path / "out").what
    torch.save({"model": {}, "cfg": evil(marker)}, tmp_path / "fairseq.pt", _use_new_zipfile_serialization=new)
    assert "nothing of it was run" in refusal(tmp_path / "fairseq.pt", made, tmp_path / "out").what
    assert not marker.exists()


def test_name_that_is_neither_a_path_nor_on_the_hub_is_told(tmp_path, made, monkeypatch):
    assert "no such file" in refusal("nowhere", made, tmp_path / "out").what
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    error = refusal("nobody/hubert-of-no-one", made, tmp_path / "out")
    assert "no model of this name" in error.what
    assert "online" in error.hint


def test_import_given_again_after_its_end_changes_nothing(tmp_path, made):
    about = imported(made / "base", made, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert imported(made / "base", made, tmp_path / "out") == about
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def test_another_tokenizer_that_is_there_is_not_written_over(tmp_path, made):
    imported(made / "base", made, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(UserError, match="holds a tokenizer already"):
        imported(made / "base", made, tmp_path / "out", layer=1)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_directory_with_other_files_is_refused(tmp_path, made):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"not empty: it holds thesis\.txt"):
        imported(made / "base", made, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_weights_of_others_that_are_called_like_ours_are_left_alone(tmp_path, made):
    (tmp_path / "model.safetensors").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"not empty: it holds model\.safetensors"):
        imported(made / "base", made, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == b"mine"


def test_what_an_interrupted_import_left_is_made_whole(tmp_path, made):
    imported(made / "base", made, tmp_path / "whole")
    make_ready(tmp_path / "out")
    (tmp_path / "out" / "model.safetensors").write_bytes(b"half")
    # Of a fit, whose units it makes audible.
    shutil.copy(directory_of("embedded") / "vocoder.safetensors", tmp_path / "out")
    (tmp_path / "out" / temporary_name("tokenizer.json")).write_text("{")
    imported(made / "base", made, tmp_path / "out")
    for name in NAMES:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == NAMES


@settings(max_examples=60)
@given(data=st.data())
def test_truncated_or_damaged_weights_are_a_users_error_or_another_model(made, tmp_path_factory, data):
    directory = tmp_path_factory.mktemp("damaged")
    shutil.copytree(made / "base", directory, dirs_exist_ok=True)
    if data.draw(st.booleans()):
        path = directory / "model.safetensors"
    else:
        path = as_pickled(directory, new=data.draw(st.booleans())) / "pytorch_model.bin"
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        # Most of the file is weights: the ends are where the structure is.
        place = data.draw(st.integers(0, 3000) | st.integers(len(content) - 9000, len(content) - 1))
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        about = imported(directory, made, directory / "out")
    except UserError as error:
        assert str(directory) in error.where
        assert not (directory / "out").exists()
    else:
        assert about["origin"]["checkpoint_sha256"] == sha256_file(path)
