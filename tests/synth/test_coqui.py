import json
import pickle

import pytest
import torch

from duologue.errors import UserError
from duologue.synth.coqui import load_coqui
from duologue.synth.engine import Utterance
from tests.pickles import Malicious
from tests.synth import tiny_vits


def load(model, config=None, licence="Apache-2.0", batch=None):
    return load_coqui(str(model), config, licence=licence, precision="float32", batch=batch, device="cpu")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tiny_vits.write(tmp_path_factory.mktemp("coqui"))


@pytest.fixture
def changed(directory, tmp_path):
    """Return a function that copies the model with a changed configuration."""
    for file in directory.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())

    def change(**settings):
        path = tmp_path / "config.json"
        about = json.loads(path.read_text())
        for name, value in settings.items():
            where = about["model_args"] if name in about["model_args"] else about
            where[name] = value
        path.write_text(json.dumps(about))
        return tmp_path

    return change


def test_voices_are_the_models_speakers_in_order(directory):
    made = load(directory)
    assert (made.name, made.licence, made.draws) == ("coqui", "Apache-2.0", True)
    assert made.voices == ("ED", "p225", "p226", "p227")
    assert len(made.identity["model_sha256"]) == 64
    json.dumps(made.identity)


def test_a_checkpoint_and_a_configuration_may_be_named(directory, tmp_path):
    elsewhere = tmp_path / "settings.json"
    elsewhere.write_bytes((directory / "config.json").read_bytes())
    (tmp_path / "speakers.pth").write_bytes((directory / "speakers.pth").read_bytes())
    made = load(directory / "model_file.pth", str(elsewhere))
    assert made.identity == load(directory / "model_file.pth").identity


def test_paths_of_a_machine_are_no_part_of_the_identity_and_settings_are(directory, changed):
    here = load(directory).identity
    assert load(changed(speakers_file="/elsewhere/speakers.pth", output_path="/elsewhere")).identity == here
    assert load(changed(length_scale=1.1)).identity != here


@pytest.mark.parametrize("speakers", [None, "speaker_ids.json"])
def test_speakers_may_stand_in_the_configuration_or_a_json_file(tmp_path, speakers):
    made = load(tiny_vits.write(tmp_path, speakers=speakers))
    assert made.voices == ("ED", "p225", "p226", "p227")


def test_names_in_an_old_weight_norm_are_read(directory, changed):
    path = changed() / "model_file.pth"
    content = torch.load(path, weights_only=True)
    old = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in content["model"].items()
    }
    assert old.keys() != content["model"].keys()
    torch.save({"model": old}, path)
    asked = [Utterance("Yes.", "p225", 1)]
    (one,), (other,) = load(directory).synthesize(asked), load(path.parent).synthesize(asked)
    assert one.audio.tobytes() == other.audio.tobytes()


def test_what_is_not_there_is_said(tmp_path, directory):
    with pytest.raises(UserError, match="no such model"):
        load(tmp_path / "nothing.pth")
    with pytest.raises(UserError, match="no checkpoint"):
        load(tmp_path)
    (tmp_path / "model.pth").write_bytes((directory / "model_file.pth").read_bytes())
    with pytest.raises(UserError, match="configuration is missing"):
        load(tmp_path)
    (tmp_path / "config.json").write_bytes((directory / "config.json").read_bytes())
    with pytest.raises(UserError, match="speakers' names is missing"):
        load(tmp_path)
    (tmp_path / "model_2.pth").write_bytes(b"")
    with pytest.raises(UserError, match="has 2 checkpoints"):
        load(tmp_path)


def test_a_model_without_a_licence_asks_for_it(directory):
    with pytest.raises(UserError, match="--licence"):
        load(directory, licence=None)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"not a checkpoint"])
def test_a_damaged_checkpoint_is_said(changed, content):
    directory = changed()
    (directory / "model_file.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"model_file\.pth"):
        load(directory)


def test_weights_that_are_no_numbers_are_said(changed):
    path = changed() / "model_file.pth"
    content = torch.load(path)
    content["model"]["emb_g.weight"][1] = float("nan")
    torch.save(content, path)
    with pytest.raises(UserError, match="no numbers"):
        load(path)


def test_a_truncated_checkpoint_is_said(changed):
    path = changed() / "model_file.pth"
    path.write_bytes(path.read_bytes()[:-5_000])
    with pytest.raises(UserError, match="damaged"):
        load(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", ["model_file.pth", "speakers.pth"])
@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_code_in_a_file_is_not_run(changed, tmp_path, name, write):
    path = changed() / name
    write({"model": Malicious(tmp_path / "sprung")}, path)
    with pytest.raises(UserError, match=r"nothing was run|damaged"):
        load(path.parent)
    assert not (tmp_path / "sprung").exists()


def test_a_checkpoint_of_another_model_is_said(changed):
    with pytest.raises(UserError, match=r"model_file\.pth"):
        load(changed(hidden_channels=32))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "tacotron2"}, "'tacotron2'; VITS and XTTS"),
        ({"use_speaker_embedding": False}, None),
        ({"use_d_vector_file": True}, "vectors of another model"),
        ({"use_language_embedding": True}, "several languages"),
        ({"phonemizer": "gruut"}, "phonemes of gruut"),
        ({"phoneme_language": "xx-none"}, "does not know the language"),
        ({"text_cleaner": "system"}, "no text cleaner"),
        ({"characters": None}, "which symbols"),
        ({"characters": {"characters_class": "os.system", "characters": "a"}}, "asks for os.system"),
    ],
)
def test_models_of_other_kinds_are_refused(changed, settings, message):
    directory = changed(**settings)
    if message is None:
        path = directory / "config.json"
        about = json.loads(path.read_text())
        about["use_speaker_embedding"] = False
        path.write_text(json.dumps(about))
        message = "has one voice"
    with pytest.raises(UserError, match=message):
        load(directory)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', "\ud800".encode("utf-8", "surrogatepass")])
def test_a_damaged_configuration_is_said(changed, content):
    directory = changed()
    (directory / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=r"config\.json"):
        load(directory)


def test_speakers_that_are_not_numbered_are_said(changed):
    directory = changed()
    torch.save({"a": 0, "b": 2}, directory / "speakers.pth")
    with pytest.raises(UserError, match="number the speakers"):
        load(directory)


def test_a_model_that_coqui_does_not_know_is_said():
    with pytest.raises(UserError, match="coqui knows no model"):
        load("tts_models/en/none/none")


def test_without_a_network_a_named_model_ends_in_one_message(tmp_path, monkeypatch):
    monkeypatch.setenv("TTS_HOME", str(tmp_path))
    # Nothing listens there, so the first connection is refused.
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="cannot be downloaded"):
        load("tts_models/en/vctk/vits")
    monkeypatch.delenv("COQUI_TOS_AGREED", raising=False)
    with pytest.raises(UserError, match="agree to its terms"):
        load("tts_models/multilingual/multi-dataset/xtts_v2")
