"""Models of coqui-tts: which files they are, and the engine that speaks with them."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from duologue.errors import UserError, reason_of
from duologue.synth.engine import Engine
from duologue.synth.licences import licence_of, stated_licence

_NAME = re.compile(r"tts_models/[^/]+/[^/]+/[^/]+")
_CONFIG = "config.json"
_CHECKPOINTS = ("*.pth", "*.pth.tar", "*.pt")
# What lies beside a checkpoint and is none.
_OTHERS = ("speaker", "language", "dvae", "mel_stats", "vocoder")


def load_coqui(
    model: str, config: str | None, *, licence: str | None, precision: str, batch: int | None, device: str
) -> Engine:
    """Load a model of coqui's: VITS of many speakers, or XTTS.

    Args:
        model: a checkpoint, a directory with one and its `config.json`, or coqui's name for a model, such as
            "tts_models/en/vctk/vits". A named model is downloaded, once.
        config: path of `config.json`, where it does not lie beside the checkpoint.
        licence: of the weights (SPDX), where nothing says it.
        precision: "float32", "bfloat16" or "float16".
        batch: sentences in a batch; None: as many as the engine likes. XTTS takes one at a time.
        device: "cpu", "cuda" or "cuda:N".

    Raises:
        UserError: coqui-tts is not installed, the model is not there, is damaged or of another kind, or nothing says
            its licence.
    """
    if find_spec("TTS") is None or find_spec("torchcodec") is None:
        raise UserError(
            "the engine coqui needs coqui-tts, which is not installed",
            where="--engine coqui",
            hint="Install it: pip install 'duologue[coqui]'",
        )
    checkpoint, settings = _files(model, config)
    named = licence_of(model, licence, stated_licence(checkpoint.parent))
    # Imported here: coqui-tts takes seconds, and is an extra.
    from duologue.synth.vits_files import read_config

    kind = read_config(settings)["model"]
    if kind == "vits":
        from duologue.synth.vits import VitsEngine

        return VitsEngine(checkpoint, settings, licence=named, precision=precision, batch=batch, device=device)
    if kind == "xtts":
        from duologue.synth.xtts import XttsEngine

        if batch not in (None, 1):
            raise UserError(
                "XTTS speaks one sentence at a time", where="--batch", hint="Leave the option out, or use VITS"
            )
        return XttsEngine(checkpoint, settings, licence=named, precision=precision, device=device)
    raise UserError(
        f"this is a model of the kind {kind!r}; VITS and XTTS can be used",
        where=settings,
        hint="Choose another, such as tts_models/en/vctk/vits",
    )


def _files(model: str, config: str | None) -> tuple[Path, Path]:
    """Return the checkpoint and the configuration of a model."""
    path = Path(model)
    if not path.exists():
        if not _NAME.fullmatch(model):
            raise UserError(
                "there is no such model",
                where=model,
                hint="Name a checkpoint, a directory, or a model of coqui's such as tts_models/en/vctk/vits",
            )
        path = _downloaded(model)
    if path.is_dir():
        path = _checkpoint(path)
    settings = Path(config) if config is not None else path.with_name(_CONFIG)
    if not settings.is_file():
        raise UserError("the model's configuration is missing", where=settings, hint="Name it with --model-config")
    return path, settings


def _checkpoint(directory: Path) -> Path:
    found = [
        path
        for pattern in _CHECKPOINTS
        for path in sorted(directory.glob(pattern))
        if path.is_file() and not path.name.startswith(_OTHERS)
    ]
    if len(found) != 1:
        raise UserError(
            f"this directory has {len(found)} checkpoints" if found else "this directory has no checkpoint (*.pth)",
            where=directory,
            hint="Name the checkpoint itself" if found else "Check the path",
        )
    return found[0]


def _downloaded(name: str) -> Path:
    """Return the directory of a model that coqui's own downloader fetches, if it is not there yet."""
    from TTS.utils.manage import ModelManager

    manager = ModelManager(progress_bar=True)
    try:
        item, directory, _ = manager._set_model_item(name)
    except KeyError as error:
        raise UserError(
            f"coqui knows no model {name}", where="--model", hint="`tts --list_models` lists those that it knows"
        ) from error
    # coqui would ask on the terminal, which a worker does not have.
    if not manager.tos_agreed(item, manager.output_prefix / directory):
        raise UserError(
            "this model may only be used by those who agree to its terms",
            where=name,
            hint="Read https://tts-hub.github.io/cpml, and if you agree set COQUI_TOS_AGREED=1",
        )
    try:
        return Path(manager.download_model(name)[0])
    except Exception as error:  # requests, zip files and coqui's own checks raise what they like
        raise UserError(
            f"the model cannot be downloaded ({reason_of(error)})",
            where=name,
            hint="Download it on a machine with a network, and name its directory",
        ) from error
