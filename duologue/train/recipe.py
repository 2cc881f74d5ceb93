"""A recipe: the settings of a training run, read from TOML and checked before anything else happens."""

from __future__ import annotations

import difflib
import math
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from duologue.errors import UserError, explained

_BUNDLED = "duologue.recipes"


class _Within(NamedTuple):
    """The range, ends included, that a number has to lie in."""

    low: float
    high: float = math.inf


_Some = Annotated[int, _Within(1)]
_Count = Annotated[int, _Within(0)]
_Share = Annotated[float, _Within(0.0, 1.0)]
_Beta = Annotated[float, _Within(0.0, 0.999999)]


@dataclass(frozen=True)
class ModelSizes:
    """A Llama to begin from nothing.

    Attributes:
        hidden_size: width of the residual stream.
        layers: number of transformer blocks.
        heads: attention heads; they divide the hidden size.
        kv_heads: key and value heads; they divide the heads.
        intermediate_size: width of the feed-forward layers.
        rope_theta: base of the rotary embedding.
    """

    hidden_size: _Some
    layers: _Some
    heads: _Some
    kv_heads: _Some
    intermediate_size: _Some
    rope_theta: Annotated[float, _Within(1.0)] = 500_000.0


@dataclass(frozen=True)
class ModelPath:
    """A pretrained Llama to begin from: a directory in Hugging Face layout, or a name on the hub."""

    path: str


@dataclass(frozen=True)
class Recipe:
    """The settings of a training run; `docs/training.md` has them as a table.

    Attributes:
        name: of the recipe.
        stage: 1, 2 or 3; the sequence set has to be of the same stage.
        sequences_per_step: sequences of an optimizer step.
        micro_batch: sequences that one process puts through the model at once; a matter of memory, not of results.
        learning_rate: after the warm-up; constant from there.
        warmup_steps: steps over which the learning rate rises in equal parts.
        steps: optimizer steps of the run; 0 for as many as the data gives. It ends with the data in any case.
        model: sizes of a model to begin from nothing, or the path of a pretrained one.
        weight_decay: of the matrices; norms have none.
        betas: of AdamW.
        clip: largest norm of the gradient.
        dtype: of the computation; "auto" is bfloat16 on a GPU that has it, float32 elsewhere.
        optimizer_dtype: of the two averages that AdamW keeps of each weight; weights are float32.
        compile: whether the model goes through `torch.compile`.
        activation_checkpointing: whether a layer's activations are computed again on the way back, not kept.
        seed: of the weights of a model from nothing.
        checkpoint_every: steps between checkpoints; the last step has one in any case.
        keep_checkpoints: how many of the last checkpoints stay.
        log_every: steps between lines on the console.
        valid_every: steps between validations, where the run has valid sets; 0 for none.
        valid_sequences: sequences of each valid set that a validation reads, at most.
        sample_chunks: length of the dialogue that a validation samples, in chunks; 0 for none.
    """

    name: str
    stage: Literal[1, 2, 3]
    sequences_per_step: _Some
    micro_batch: _Some
    learning_rate: Annotated[float, _Within(1e-12, 1.0)]
    warmup_steps: _Count
    steps: _Count
    model: ModelSizes | ModelPath
    weight_decay: _Share = 0.1
    betas: tuple[_Beta, _Beta] = (0.9, 0.95)
    clip: Annotated[float, _Within(1e-6)] = 1.0
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    optimizer_dtype: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    activation_checkpointing: bool = False
    seed: _Count = 0
    checkpoint_every: _Some = 500
    keep_checkpoints: _Some = 2
    log_every: _Some = 10
    valid_every: _Count = 500
    valid_sequences: _Some = 64
    sample_chunks: _Count = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe as plain values, as JSON and TOML hold them."""
        return {**asdict(self), "betas": list(self.betas)}


def bundled() -> list[str]:
    """Return the names of the recipes that ship with the package, sorted."""
    names = (entry.name for entry in resources.files(_BUNDLED).iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def load_recipe(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe.

    Args:
        name_or_path: the name of a bundled recipe, or a TOML file.
        overrides: settings that replace those of the file, such as `{"steps": 100, "model": {"path": "..."}}`.

    Raises:
        UserError: there is no such recipe, it is not TOML, a key is unknown or missing, or a value is not of its
            type or outside its range.
    """
    path = Path(name_or_path)
    with explained(path, "reading"):
        is_file = path.suffix == ".toml" or path.is_file()
    if is_file:
        text = _read(path)
    elif str(name_or_path) in bundled():
        text = resources.files(_BUNDLED).joinpath(f"{name_or_path}.toml").read_text("utf-8")
    else:
        raise UserError(
            f"there is no recipe {name_or_path}{_nearest(str(name_or_path), bundled())}",
            where=name_or_path,
            hint=f"Give a .toml file or one of {', '.join(bundled())}",
        )
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"the recipe is not TOML: {error}", where=name_or_path, hint="Correct it") from error
    return _recipe({**table, **(overrides or {})}, str(name_or_path))


def _read(path: Path) -> str:
    try:
        with explained(path, "reading"):
            return path.read_text("utf-8")
    except FileNotFoundError as error:
        raise UserError("there is no such recipe", where=path, hint="Check the path") from error
    except UnicodeDecodeError as error:
        raise UserError("the recipe is not UTF-8 text", where=path, hint="Save it as UTF-8") from error


def _recipe(table: dict[str, Any], where: str) -> Recipe:
    model = table.get("model")
    if isinstance(model, dict):
        shape = ModelPath if "path" in model else ModelSizes
        table["model"] = _typed(shape, model, where, prefix="model.")
    recipe = _typed(Recipe, table, where)
    if recipe.micro_batch > recipe.sequences_per_step:
        raise _wrong(where, "micro_batch", f"{recipe.micro_batch}, more than the sequences_per_step")
    if isinstance(recipe.model, ModelSizes):
        sizes = recipe.model
        # Rotary embeddings turn pairs of a head's numbers.
        if sizes.hidden_size % sizes.heads or sizes.hidden_size // sizes.heads % 2:
            raise _wrong(where, "model.heads", f"{sizes.heads}, which does not cut hidden_size in even parts")
        if sizes.heads % sizes.kv_heads:
            raise _wrong(where, "model.kv_heads", f"{sizes.kv_heads}, which does not divide heads")
    return recipe


def _typed(shape: Any, table: Mapping[str, Any], where: str, prefix: str = "") -> Any:
    """Return the dataclass `shape` filled from a table, or raise a `UserError` that names the first mistake."""
    known = {entry.name: entry for entry in fields(shape)}
    hints = get_type_hints(shape, include_extras=True)
    for key in table:
        if key not in known:
            raise UserError(
                f"the recipe has an unknown key {prefix}{key}{_nearest(key, list(known))}",
                where=where,
                hint=f"The keys are {', '.join(prefix + name for name in known)}",
            )
    values = {}
    for key, entry in known.items():
        if key in table:
            values[key] = _checked(table[key], hints[key], where, prefix + key)
        elif entry.default is MISSING:
            raise UserError(f"the recipe lacks the key {prefix}{key}", where=where, hint="Add it")
    return shape(**values)


def _checked(value: Any, hint: Any, where: str, key: str) -> Any:
    if get_origin(hint) is Annotated:
        kind, within = get_args(hint)
        value = _checked(value, kind, where, key)
        if not within.low <= value <= within.high:
            top = "" if within.high == math.inf else f" and at most {within.high:g}"
            raise _wrong(where, key, f"{value:g}; it has to be at least {within.low:g}{top}")
        return value
    if get_origin(hint) is Literal:
        if value not in get_args(hint) or isinstance(value, bool):
            raise _wrong(where, key, f"{value!r}, not one of {', '.join(map(repr, get_args(hint)))}")
        return value
    if get_origin(hint) is tuple:
        kinds = get_args(hint)
        if not isinstance(value, list) or len(value) != len(kinds):
            raise _wrong(where, key, f"{value!r}, not a list of {len(kinds)} numbers")
        return tuple(_checked(part, kind, where, key) for part, kind in zip(value, kinds, strict=True))
    if hint is bool:
        if not isinstance(value, bool):
            raise _wrong(where, key, f"{value!r}, not true or false")
        return value
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        # A whole number may be too large for a float.
        if not abs(value) <= sys.float_info.max:
            raise _wrong(where, key, f"{value!r}, not a finite number")
        return float(value)
    if not isinstance(value, hint) or isinstance(value, bool):
        names = {int: "a whole number", float: "a number", str: "a text"}
        raise _wrong(where, key, f"{value!r}, not {names.get(hint, 'a table')}")
    if isinstance(value, str) and not value.isprintable():
        # A path of another encoding, from the command line: the run could not be described with it.
        raise _wrong(where, key, f"{value!r}, which has characters that cannot be printed, or is not UTF-8")
    return value


def _wrong(where: str, key: str, what: str) -> UserError:
    return UserError(f"the recipe's {key} is {what}", where=where, hint="Correct it; docs/training.md has the keys")


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; the nearest is {near[0]}" if near else ""
