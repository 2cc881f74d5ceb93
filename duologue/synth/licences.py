"""Licences of speech models: what the model states, what its publisher lists, or what the user says."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

from huggingface_hub import metadata_load
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from duologue.errors import UserError

# Words of coqui's list and of model cards that are not SPDX identifiers.
_SPELLINGS = {
    "apache 2.0": "Apache-2.0",
    "mpl": "MPL-2.0",
    "cpml": "LicenseRef-CPML",
    "coqui-public-model-license": "LicenseRef-CPML",
    "openrail": "LicenseRef-OpenRAIL",
}
# Of the model cards on the hub (https://huggingface.co/<name>); coqui's own list says the same of Bark and XTTS.
_ON_THE_HUB = {
    "suno/bark": "MIT",
    "suno/bark-small": "MIT",
    "coqui/XTTS-v2": "LicenseRef-CPML",
}
_NON_COMMERCIAL = re.compile(r"(?:^|[- ])(?:NC|NCGL|CPML|NonCommercial)(?:$|[- ])", re.IGNORECASE)
_ANSWER = "an SPDX identifier such as Apache-2.0, or LicenseRef- and a name for one that SPDX does not list"


def licence_of(model: str, given: str | None, stated: str | None) -> str:
    """Return the licence of a speech model's weights, for the card of what is made with it.

    Args:
        model: as the user named it: a path, a name of coqui's list such as "tts_models/en/vctk/vits", or a name on
            the hub. A directory that coqui's downloader made is known by its own name.
        given: what the user says; it wins.
        stated: what the model's own files say (see `stated_licence`); it wins over what is known by name.

    Returns:
        An SPDX expression. Licences that SPDX does not list begin with `LicenseRef-`: Coqui's own, of XTTS, is
        `LicenseRef-CPML`.

    Raises:
        UserError: `given` is no SPDX expression, or nothing says what the licence is.
    """
    if given is not None:
        licence = _spdx(given)
        if licence is None:
            raise UserError(f"{given!r} is not a licence's identifier", where="--licence", hint=f"Give {_ANSWER}")
        return licence
    name = Path(model).name.replace("--", "/")
    known = _ON_THE_HUB.get(model) or _listed(model) or _listed(name)
    for candidate in (stated, known):
        if candidate is not None and (licence := _spdx(candidate)):
            return licence
    raise UserError(
        "nothing says under which licence this model may be used" if known is None else f"its licence is {known!r}",
        where=model,
        hint=f"Read its terms and give the licence with --licence: {_ANSWER}",
    )


def stated_licence(directory: Path) -> str | None:
    """Return the licence in the model card of a directory (`license:` at the head of its README.md), as written.

    A card that says "other" may name the licence in `license_name`. None where there is no card or it says nothing.
    """
    try:
        about = metadata_load(directory / "README.md") or {}
    except Exception:  # there is no card, or what stands at its head is not YAML
        return None
    licence = about.get("license")
    if licence == "other":
        licence = about.get("license_name")
    return licence if isinstance(licence, str) else None


def is_non_commercial(licence: str) -> bool:
    """Say whether a licence, as `licence_of` returns it, forbids commercial use: CPML, CC-BY-NC and their like."""
    return _NON_COMMERCIAL.search(licence) is not None


def _spdx(text: str) -> str | None:
    """Return the SPDX expression that a licence's name stands for, or None."""
    words = text.strip()
    if words.upper().startswith("CC"):
        words = words.replace(" ", "-")
    try:
        return canonicalize_license_expression(_SPELLINGS.get(words.lower(), words))
    except InvalidLicenseExpression:
        return None


def _listed(name: str) -> str | None:
    """Return what the list of models in the installed coqui-tts says, such as "apache 2.0", or None."""
    package = find_spec("TTS")
    if package is None or package.origin is None:
        return None
    entry = json.loads(Path(package.origin).with_name(".models.json").read_text("utf-8"))
    for part in name.split("/"):
        entry = entry.get(part)
        if not isinstance(entry, dict):
            return None
    licence = entry.get("license")
    return licence if isinstance(licence, str) and licence else None
