"""Checking a tokenizer: golden units, how its units are used, parity, and the clock, on the user's own audio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file

from duologue.errors import UserError
from duologue.formats.audio import channel_blocks, probe
from duologue.progress import Watch, say
from duologue.tokenize.architecture import Architecture
from duologue.tokenize.devices import own_device
from duologue.tokenize.encoder import HubertTokenizer
from duologue.tokenize.fit import usage
from duologue.tokenize.golden import without_repeats
from duologue.tokenize.golden_cases import BUNDLED, SAMPLE, SAMPLE_WEIGHTS, cases_of, compared, layer_named, readable
from duologue.tokenize.parity import PIECE_S, clock, has_bfloat16, parity, variants
from duologue.tokenize.tokenizer import QUANTIZER, Tokenizer, directory_of, load_tokenizer, read_about
from duologue.tokenize.windows import WINDOW_S, units_of

CALL = BUNDLED / "call" / "auto_repairs.flac"


def check_tokenizer(
    directory: Path, audio: Sequence[Path] = (), units: Sequence[Path] = (), *, seconds: int = 60
) -> dict[str, Any]:
    """Check a tokenizer on audio.

    Args:
        directory: of the tokenizer, or "embedded".
        audio: files to check it on; none: the bundled call, and the sample that ships with golden units.
        units: golden units of these files, an utterance for each channel in order; see `read_golden`.
        seconds: how much of the beginning of each file is computed in several ways, 1 to 100. With golden units the
            whole file is compared.

    Returns:
        A report that JSON can hold: what the tokenizer is, "golden", "usage", "residual", "parity", "clock",
        "warnings", and "passed": whether all units that must be the golden ones are. docs/hubert.md says how each is
        read.

    Raises:
        UserError: an option is out of range, or the tokenizer, audio or golden units cannot be read.
    """
    if not 1 <= seconds <= PIECE_S:
        raise UserError(f"--seconds is 1 to {PIECE_S}, not {seconds}", hint="Correct the option")
    if units and not audio:
        raise UserError(
            "golden units come with the audio they were made of", where="--units", hint="Give its --audio"
        )
    about, place = read_about(directory), directory_of(directory)
    hubert = about["kind"] == "hubert"
    tokenizer = HubertTokenizer.load(place, about, batch=1) if hubert else load_tokenizer(directory)
    cases = cases_of(audio, units, about, tokenizer.vocabulary)
    paths = list(audio) or [CALL, SAMPLE]
    heard = [_beginning(path, tokenizer.sample_rate, seconds) for path in paths]
    recordings = [recording for recording, _ in heard]
    device = own_device() if hubert else "cpu"
    precision = about["identity"].get("precision")
    if precision == "bfloat16" and not has_bfloat16(device):
        say("this CPU only imitates bfloat16: encoding takes up to a hundred times as long as in float32")
    ways, left_out = variants(precision, device, recordings) if hubert else ([], [])
    reference, changes = [], []
    with Watch("tokenizer check", len(cases) + (1 + len(ways)) * len(recordings), "encodings") as watch:
        golden = compared(cases, tokenizer, place, about, watch.advance)
        for found in tokenizer.encode([recording] for recording in recordings):
            assert isinstance(found, np.ndarray)
            reference.append(found)
            watch.advance()
        if ways:
            changes = parity(place, about, ways, recordings, reference, watch.advance)
    report = {
        "tokenizer": str(directory),
        **{name: about["identity"].get(name) for name in ("kind", "layer", "normalise", "precision")},
        "rate": tokenizer.rate,
        "vocabulary": tokenizer.vocabulary,
        "device": device,
        "golden": golden,
        "usage": _usage(reference, tokenizer.vocabulary),
        "residual": _residual(tokenizer, recordings, place),
        "parity": changes,
        "not_computed": left_out,
        "clock": _clock(about, [path.name for path in paths], heard, reference),
    }
    on_clock = all(row["on_clock"] for row in report["clock"]["files"])
    report["passed"] = on_clock and all(row["passed"] for row in golden if row["required"])
    report["warnings"] = _warnings(report, layer_named(about))
    return report


def _beginning(path: Path, rate: int, seconds: int) -> tuple[np.ndarray, int]:
    """Return the first seconds of a file, float32 `[channels, samples]`, and how many samples it has in all."""
    parts: list[np.ndarray] = []
    count, limit = 0, seconds * rate
    with readable(path):
        info = probe(path)
        for block in channel_blocks([(path, channel) for channel in range(info.channels)], rate):
            parts.append(block)
            count += block.shape[1]
            if count > limit:
                return np.concatenate(parts, axis=1)[:, :limit], round(info.duration_s * rate)
    return np.concatenate(parts, axis=1), count


def _usage(units: Sequence[np.ndarray], vocabulary: int) -> dict[str, Any]:
    """Return how many units there are, how many different ones, their perplexity, and how long a run lasts."""
    rows = [row for recording in units for row in recording]
    frames = sum(len(row) for row in rows)
    runs = sum(len(without_repeats(row)) for row in rows)
    used = usage(np.bincount(np.concatenate(rows), minlength=vocabulary))
    return {"frames": frames, **used, "share_used": used["units_used"] / vocabulary, "run_frames": frames / runs}


def _residual(tokenizer: Tokenizer, recordings: Sequence[np.ndarray], directory: Path) -> float | None:
    """Return how far features are from their nearest centroids, relative to how far they are from their mean.

    Both are mean squared distances, over the first window of each recording. None without k-means of a HuBERT model,
    or where all features are the same.
    """
    if not isinstance(tokenizer, HubertTokenizer) or tokenizer.identity["quantizer"]["kind"] != "kmeans":
        return None
    centroids = torch.from_numpy(load_file(directory / QUANTIZER)["centroids"]).double()
    samples = WINDOW_S * tokenizer.sample_rate
    found = tokenizer.features([recording[:, :samples]] for recording in recordings)
    features = torch.cat(
        [torch.from_numpy(one).flatten(0, 1) for one in found if isinstance(one, np.ndarray)]
    ).double()
    spread = (features - features.mean(dim=0)).square().sum(dim=1).mean()
    nearest = torch.cdist(features, centroids).amin(dim=1).square().mean()
    return round(float(nearest / spread), 4) if spread > 0 else None


def _clock(
    about: Mapping[str, Any],
    names: Sequence[str],
    heard: Sequence[tuple[np.ndarray, int]],
    units: Sequence[np.ndarray],
) -> dict[str, Any]:
    """Return the units of each whole file and of an hour, beside those of pieces where a HuBERT model has them."""
    identity = about["identity"]
    rate = identity["sample_rate"]
    hop = rate // identity["rate"]
    shape = Architecture.from_dict(identity["architecture"]) if identity["kind"] == "hubert" else None
    files = []
    for name, (recording, samples), found in zip(names, heard, units, strict=True):
        files.append(
            {
                "audio": name,
                "seconds": round(samples / rate, 3),
                "units": units_of(samples, hop),
                **(clock(samples, shape) if shape else {}),
                "on_clock": found.shape[1] == units_of(recording.shape[1], hop),
            }
        )
    hour = {"units": units_of(3600 * rate, hop), **(clock(3600 * rate, shape) if shape else {})}
    return {"files": files, "hour": hour}


def _warnings(report: Mapping[str, Any], layer: int | None) -> list[str]:
    found = []
    if layer is not None and layer != report["layer"]:
        found.append(f"the quantizer's name says layer {layer}, and the tokenizer takes layer {report['layer']}")
    residual = report["residual"]
    if residual is not None and residual >= 1:
        found.append(
            f"the features' own mean is nearer to them than the centroids are (residual {residual:.2f}): these were "
            "made for another layer, model or normalisation, or for audio of quite another kind"
        )
    if any(row["required"] and row["weights"] and not row["passed"] for row in report["golden"]):
        found.append(
            f"by its origin's names this tokenizer is {SAMPLE_WEIGHTS}, but its units are not fairseq's: not these "
            "weights, another layer, or a damaged import. Compare the SHA-256 in its tokenizer.json with those "
            "published, and import it again"
        )
    if any(not row["required"] and not row["passed"] for row in report["golden"]):
        found.append(
            f"the tokenizer has the shape of {SAMPLE_WEIGHTS}, but other units: not these weights, or a damaged "
            "import. Its origin's names do not say that it is, so the check does not fail for it"
        )
    return found


def report_lines(report: Mapping[str, Any]) -> list[str]:
    """Return the report of `check_tokenizer` as lines for people."""
    known = {
        "kind": report["kind"],
        "layer": None if report["layer"] is None else f"layer {report['layer']}",
        "rate": f"{report['rate']} Hz",
        "vocabulary": f"{report['vocabulary']} units",
        "precision": report["precision"],
        "device": f"on {report['device']}",
    }
    lines = [f"{report['tokenizer']}: {', '.join(value for value in known.values() if value)}"]
    lines += ["", "golden units", *(_golden_line(row) for row in report["golden"])]
    if not report["golden"]:
        lines.append("  none: give --audio and --units that others made of it")
    use = report["usage"]
    lines += [
        "",
        f"units of {use['frames']:,} frames",
        f"  used {use['units_used']} of {report['vocabulary']} ({use['share_used']:.1%}), perplexity "
        f"{use['perplexity']:.1f}, a run lasts {use['run_frames']:.2f} frames",
    ]
    if report["residual"] is not None:
        lines.append(f"  residual {report['residual']:.2f}: below 1 where the centroids were made for such features")
    if report["parity"]:
        lines += ["", f"{'parity':<24}{'units changed':>28}{'drift in frames':>18}"]
    for row in report["parity"]:
        changed = f"{row['changed']:,} of {row['frames']:,} ({row['share']:.3%})"
        lines.append(f"  {row['what']:<22}{changed:>28}{row['drift_frames']:>18}")
    for name in report["not_computed"]:
        lines.append(f"  {name:<22}{'not computed: this CPU only imitates bfloat16':>46}")
    lines += ["", *_clock_lines(report["clock"])]
    lines += [f"warning: {text}" for text in report["warnings"]]
    if any(row["required"] for row in report["golden"]) or not report["passed"]:
        lines += ["", "passed" if report["passed"] else "not passed"]
    return lines


def _golden_line(row: Mapping[str, Any]) -> str:
    counted = "deduplicated units" if row["deduplicated"] else "frames"
    whose = f", fairseq's own of {row['weights']}" if row["weights"] else ""
    first = "" if row["first_difference"] is None else f", the first difference at {row['first_difference']:,}"
    length = row["length_difference"]
    more = f", {abs(length):,} {'more' if length > 0 else 'fewer'} than golden"
    if 0 <= length <= row["spare"]:
        more = ""
    return (
        f"  {row['audio']}, channel {row['channel']}{whose}: {row['equal']:,} of {row['frames']:,} {counted} equal "
        f"({row['share']:.2%}), computed {row['computed']}{first}{more}: {row['verdict']}"
    )


def _clock_lines(clock: Mapping[str, Any]) -> list[str]:
    pieces = "in_pieces" in clock["hour"]
    lines = [f"{'clock':<40}{'units':>10}" + (f"{f'in pieces of {PIECE_S} s':>22}{'lost':>8}" if pieces else "")]
    rows = [(f"{row['audio']} ({row['seconds']:,.1f} s)", row) for row in clock["files"]]
    for name, row in [*rows, ("an hour", clock["hour"])]:
        rest = f"{row['in_pieces']:>22,}{row['lost']:>8,}" if pieces else ""
        lines.append(f"  {name:<38}{row['units']:>10,}{rest}")
    return lines
