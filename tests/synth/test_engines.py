import pickle

import pytest

from duologue.errors import UserError
from duologue.synth.engines import ENGINES, EngineChoice, load_engine


def test_the_embedded_engine_needs_nothing_else():
    with load_engine(EngineChoice()) as engine:
        assert engine.name == "espeak" and len(engine.voices) == 10


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        (EngineChoice("festival"), "'festival'.*espeak, coqui, bark"),
        (EngineChoice("coqui"), "none is named.*--model"),
        (EngineChoice("bark"), "none is named.*--model"),
        (EngineChoice("bark", model="suno/bark", config="c.json"), "--model-config"),
        (EngineChoice("coqui", model="m", precision="int8"), "no precision 'int8'"),
        (EngineChoice("coqui", model="m", batch=0), "1 sentence or more"),
        (EngineChoice(model="m"), "espeak has no model"),
        (EngineChoice(licence="MIT"), "espeak has no model"),
        (EngineChoice(precision="bfloat16"), "espeak has no model"),
        (EngineChoice(batch=8), "espeak has no model"),
    ],
)
def test_a_setting_that_the_engine_does_not_have_is_refused(choice, says):
    with pytest.raises(UserError, match=says):
        load_engine(choice)


def test_relative_paths_become_absolute_and_names_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vits").mkdir()
    (tmp_path / "config.json").touch()
    choice = EngineChoice("coqui", model="vits", config="config.json").resolved()
    assert (choice.model, choice.config) == (str(tmp_path / "vits"), str(tmp_path / "config.json"))
    named = EngineChoice("coqui", model="tts_models/en/vctk/vits", voices=("p225", "p226"))
    assert named.resolved() == named == pickle.loads(pickle.dumps(named))
    assert EngineChoice().resolved().name in ENGINES
