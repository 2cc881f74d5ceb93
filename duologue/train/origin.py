"""Where a run's first weights come from, and whether they fit its data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import LlamaConfig

from duologue.errors import UserError, explained
from duologue.formats.card import RUN
from duologue.formats.fingerprint import fingerprint, sha256_file
from duologue.formats.sequences import SequenceSet, describe
from duologue.formats.vocabulary import Vocabulary
from duologue.progress import say
from duologue.train.checkpoint import TRAINER, checkpoints, read_trainer
from duologue.train.export import TRAINED, trained_on
from duologue.train.fit import check_same, check_speech, check_vocabulary
from duologue.train.model import source_of
from duologue.train.recipe import ModelPath, ModelSizes, Recipe
from duologue.train.weights import Source, StoredWeights

_SIDE = {
    "whose": "the model to start from",
    "hint": "Start from a model that was trained with the data's, or make the data again with the model's",
}


@dataclass(frozen=True)
class Origin:
    """The weights that a run begins with.

    Attributes:
        model: sizes to begin from nothing, or where to load from.
        about: what `run.json` says of it; no path but a hub name, so that equal runs have equal files.
        widened: whether the model has our vocabulary already.
    """

    model: ModelSizes | ModelPath
    about: dict[str, Any]
    widened: bool

    def source(self, recipe: Recipe, vocabulary: Vocabulary) -> Source:
        """Return the weights, the embeddings as wide as the vocabulary asks.

        Raises:
            UserError: they cannot be loaded, or have other sizes than the recipe says or the vocabulary needs.
        """
        if self.widened:
            assert isinstance(self.model, ModelPath)
            source = _of_ours(self.model.path, vocabulary)
        else:
            source = source_of(self.model, vocabulary.padded_size(), vocabulary.base_size, recipe.seed)
        if isinstance(self.model, ModelPath):
            _same_sizes(recipe, source.config, self.model.path)
        return source


def origin_of(recipe: Recipe, data: SequenceSet, init_from: Path | None) -> Origin:
    """Find out where a run's first weights come from, and refuse what does not fit its data.

    Args:
        recipe: of the run; its model counts where `init_from` is not given.
        data: what the run trains on.
        init_from: a run (its last checkpoint), a checkpoint, or a model in Hugging Face layout. With our vocabulary
            it has to be the data's; without, it is widened.

    Raises:
        UserError: there is nothing to start from, or its vocabulary, unit tokenizer or chunk size is not the data's.
    """
    if init_from is None:
        if isinstance(recipe.model, ModelSizes):
            return Origin(recipe.model, {"kind": "nothing"}, widened=False)
        return _pretrained(recipe.model.path, data)
    if not init_from.is_dir():
        raise UserError(
            "there is no such directory to start from", where=init_from, hint="Give a run or a model directory"
        )
    path = init_from
    if (init_from / RUN).exists():
        if not (whole := checkpoints(init_from)):
            raise UserError(
                "the run to start from has no checkpoint yet",
                where=init_from,
                hint="Start it again: it goes on from where it stopped",
            )
        path = whole[-1]
    # Each of them says that it is a model of ours: without its vocabulary it is damaged.
    if not any((path / name).exists() for name in ("vocabulary.json", TRAINER, TRAINED)):
        return _pretrained(str(path), data)
    ours = describe(data.card)
    check_vocabulary(Vocabulary.load(path).identity, ours["vocabulary"], where=path, **_SIDE)
    trainer = read_trainer(path) if (path / TRAINER).exists() else None
    theirs = trained_on(path) if trainer is None else trainer["data"]
    if theirs is None:
        say(f"{path} does not say what it was trained on: it is taken to have the data's unit tokenizer and chunks")
    else:
        check_speech(theirs, ours, where=path, **_SIDE)
    about = (
        {"kind": "model", "fingerprint": _fingerprint_of(path)}
        if trainer is None
        else {"kind": "run", "fingerprint": trainer["run"], "step": trainer["step"]}
    )
    return Origin(ModelPath(str(path)), about, widened=True)


def _pretrained(path: str, data: SequenceSet) -> Origin:
    """A model without our vocabulary; the data's text has to be numbered as the model's."""
    directory = Path(path)
    local = directory.is_dir()
    if local and not (directory / "tokenizer.json").exists():
        say(f"{path} has no tokenizer.json: it is taken to number text as the data does")
    else:
        own = Vocabulary.from_hugging_face(path, data.vocabulary.units).identity
        theirs, ours = (
            {key: identity[key] for key in ("base_size", "sha256")} for identity in (own, data.vocabulary.identity)
        )
        check_same("text tokenizer", theirs, ours, where=path, **_SIDE)
    about = {"kind": "model", "fingerprint": _fingerprint_of(directory)} if local else {"kind": "hub", "name": path}
    return Origin(ModelPath(path), about, widened=False)


def _of_ours(path: str, vocabulary: Vocabulary) -> Source:
    stored = StoredWeights(path)
    if stored.config.vocab_size != vocabulary.padded_size():
        raise UserError(
            f"the model has {stored.config.vocab_size:,} rows, its vocabulary needs {vocabulary.padded_size():,}",
            where=path,
            hint="Start from a whole checkpoint",
        )
    return stored


def _fingerprint_of(model: Path) -> str:
    with explained(model, "reading"):
        files = sorted([*model.glob("config.json"), *model.glob("*.safetensors")])
        return fingerprint({file.name: sha256_file(file) for file in files})


def _same_sizes(recipe: Recipe, config: LlamaConfig, where: str) -> None:
    if isinstance(recipe.model, ModelPath):
        return
    assert config.rope_parameters is not None
    theirs = {
        "hidden_size": config.hidden_size,
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "kv_heads": config.num_key_value_heads,
        "intermediate_size": config.intermediate_size,
        "rope_theta": config.rope_parameters["rope_theta"],
    }
    for key, value in theirs.items():
        if value != getattr(recipe.model, key):
            raise UserError(
                f"the model to start from has {key} {value}, the recipe says {getattr(recipe.model, key)}",
                where=where,
                hint="Put the model's sizes into the recipe, or start from another model",
            )
