"""The speech engines by name, and what of them is chosen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from duologue.errors import UserError
from duologue.synth.engine import Engine

ENGINES = ("espeak", "coqui", "bark")


@dataclass(frozen=True)
class EngineChoice:
    """A speech engine and its settings; picklable.

    Attributes:
        name: one of `ENGINES`.
        model: path or name of the model; espeak has none.
        config: path of the model's configuration, where it does not lie beside the model.
        licence: of the model (SPDX), where its files do not say.
        voices: names of the voices that may speak; all of the engine's, if none is named.
        precision: "float32", "bfloat16" or "float16", of the model's computation.
        batch: sentences in a batch; None: as many as the engine likes.
    """

    name: str = "espeak"
    model: str | None = None
    config: str | None = None
    licence: str | None = None
    voices: tuple[str, ...] = ()
    precision: str = "float32"
    batch: int | None = None

    def resolved(self) -> EngineChoice:
        """Return the choice with absolute paths, which workers with another working directory understand."""

        def absolute(name: str | None) -> str | None:
            return str(Path(name).resolve()) if name is not None and Path(name).exists() else name

        return replace(self, model=absolute(self.model), config=absolute(self.config))


def load_engine(choice: EngineChoice, device: str = "cpu") -> Engine:
    """Start a speech engine.

    Args:
        choice: which one, and its settings.
        device: where a model computes: "cpu" or "cuda:N". espeak computes on the CPU, always.

    Raises:
        UserError: there is no such engine, it does not have a setting that was made, or it cannot be started here.
    """
    if choice.name not in ENGINES:
        raise UserError(
            f"there is no speech engine called {choice.name!r}",
            where="--engine",
            hint=f"Choose one of: {', '.join(ENGINES)}",
        )
    if choice.precision not in ("float32", "bfloat16", "float16"):
        raise UserError(
            f"there is no precision {choice.precision!r}",
            where="--precision",
            hint="Choose float32, bfloat16 or float16",
        )
    if choice.batch is not None and choice.batch < 1:
        raise UserError("a batch has 1 sentence or more", where="--batch", hint="Correct the option")
    if choice.name == "espeak":
        return _load_espeak(choice)
    if choice.model is None:
        raise UserError(
            f"the engine {choice.name} speaks with a model, and none is named",
            where="--model",
            hint="Name a checkpoint, a directory, or a model by its public name",
        )
    if choice.name == "coqui":
        from duologue.synth.coqui import load_coqui

        return load_coqui(
            choice.model,
            choice.config,
            licence=choice.licence,
            precision=choice.precision,
            batch=choice.batch,
            device=device,
        )
    if choice.config is not None:
        raise UserError("Bark's configuration lies in its directory", where="--model-config", hint="Leave it out")
    from duologue.synth.bark import load_bark

    return load_bark(
        choice.model, licence=choice.licence, precision=choice.precision, batch=choice.batch, device=device
    )


def _load_espeak(choice: EngineChoice) -> Engine:
    from duologue.synth.espeak import EspeakEngine

    if replace(choice, voices=()) != EngineChoice():
        raise UserError(
            "espeak has no model, and none of a model's settings",
            where="--engine espeak",
            hint="Leave out --model, --model-config, --licence, --precision and --batch, or choose another --engine",
        )
    return EspeakEngine()
