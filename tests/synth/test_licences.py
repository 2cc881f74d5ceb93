import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from duologue.errors import UserError
from duologue.synth.licences import is_non_commercial, licence_of, stated_licence


def card(directory, head):
    (directory / "README.md").write_text(f"---\n{head}\n---\n# A model\n", "utf-8")
    return stated_licence(directory)


@pytest.mark.parametrize(
    ("model", "licence"),
    [
        ("tts_models/en/vctk/vits", "Apache-2.0"),
        ("tts_models/en/vctk/fast_pitch", "CC-BY-NC-ND-4.0"),
        ("tts_models/multilingual/multi-dataset/xtts_v2", "LicenseRef-CPML"),
        ("tts_models/ewe/openbible/vits", "CC-BY-SA-4.0"),
        ("tts_models/en/ljspeech/glow-tts", "MPL-2.0"),
        ("/home/me/.local/share/tts/tts_models--en--vctk--vits", "Apache-2.0"),
        ("suno/bark", "MIT"),
        ("coqui/XTTS-v2", "LicenseRef-CPML"),
    ],
)
def test_a_published_model_is_known_by_its_name(model, licence):
    assert licence_of(model, None, None) == licence


def test_every_licence_on_the_list_of_coqui_is_understood_or_asked_for():
    package = find_spec("TTS")
    listed = json.loads(Path(package.origin).with_name(".models.json").read_text("utf-8"))["tts_models"]
    asked = set()
    for language, sets in listed.items():
        for data, models in sets.items():
            for model in models:
                name = f"tts_models/{language}/{data}/{model}"
                try:
                    licence_of(name, None, None)
                except UserError as error:
                    asked.add(name)
                    assert "--licence" in error.hint
    # Its licence is a reference to a web page; where the list says nothing there is nothing to say.
    assert asked == {"tts_models/en/jenny/jenny"}


def test_what_the_user_says_wins_over_what_the_model_states_and_that_over_its_name():
    assert licence_of("suno/bark", "bsd-3-clause", "cc-by-4.0") == "BSD-3-Clause"
    assert licence_of("suno/bark", None, "cc-by-4.0") == "CC-BY-4.0"


def test_a_stated_licence_that_is_no_licence_leaves_the_name_to_decide():
    assert licence_of("suno/bark", None, "see below") == "MIT"


@pytest.mark.parametrize("model", ["/models/mine", "tts_models/en/no/such", "tts_models/en/vctk", "owner/name", ""])
def test_a_model_that_says_nothing_is_asked_about(model):
    with pytest.raises(UserError) as caught:
        licence_of(model, None, None)
    assert "--licence" in caught.value.hint


@pytest.mark.parametrize("given", ["", "free", "Apache-2.0 AND", "GPL"])
def test_a_given_licence_that_spdx_does_not_know_is_refused(given):
    with pytest.raises(UserError) as caught:
        licence_of("suno/bark", given, None)
    assert caught.value.where == "--licence"


def test_a_licence_of_ones_own_is_taken_as_a_reference():
    assert licence_of("/models/mine", "LicenseRef-Acme-Internal", None) == "LicenseRef-Acme-Internal"


def test_the_model_card_states_the_licence(tmp_path):
    assert card(tmp_path, "language: en\nlicense: mit") == "mit"
    assert card(tmp_path, "license: other\nlicense_name: coqui-public-model-license") == "coqui-public-model-license"
    assert licence_of("/models/mine", None, "coqui-public-model-license") == "LicenseRef-CPML"


@pytest.mark.parametrize(
    "head", ["language: en", "license: other", "license: [mit]", "- mit", "license: {", "a: \x00"]
)
def test_a_card_without_a_licence_states_none(tmp_path, head):
    assert card(tmp_path, head) is None


def test_a_directory_without_a_card_states_no_licence(tmp_path):
    assert stated_licence(tmp_path) is None
    (tmp_path / "README.md").write_bytes(b"---\nlicense: \xff\n---\n")
    assert stated_licence(tmp_path) is None


@pytest.mark.parametrize(
    ("licence", "forbids"),
    [
        ("LicenseRef-CPML", True),
        ("CC-BY-NC-4.0", True),
        ("CC-BY-NC-ND-4.0", True),
        ("PolyForm-Noncommercial-1.0.0", True),
        ("MIT AND CC-BY-NC-SA-4.0", True),
        ("Apache-2.0", False),
        ("CC-BY-SA-4.0", False),
        ("NCSA", False),
        ("LicenseRef-OpenRAIL", False),
    ],
)
def test_non_commercial_licences_are_known(licence, forbids):
    assert is_non_commercial(licence) is forbids
