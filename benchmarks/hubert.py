"""HuBERT units: fairseq's way beside Duologue's, on the same audio and the same random weights, in one run.

    python benchmarks/hubert.py                       # needs the extra `fairseq`; two CPU threads, float32
    python benchmarks/hubert.py --rate 25 --precision bfloat16
    python benchmarks/hubert.py --device cuda --precision bfloat16 --seconds 3600 --files 64

fairseq's way: its model, one channel at a time, pieces of 100 s, float32, scikit-learn's `predict`. Ours: a tokenizer
imported from the checkpoint that fairseq saved. The two take turns; the median of several runs counts. Real time is
that of the channels: a minute of a call is two minutes here. With `--files`, 8 kHz mu-law calls are tokenized from
the disk to a unit set as well. Weights are random: they say nothing of the units of speech, and everything of time.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from measuring import interleaved, machine, parser_of, seconds_of, where
from sklearn.cluster import KMeans

from duologue import bundled
from duologue.formats.audio import read_channels
from duologue.manifests.stereo import write_recordings
from duologue.pipelines.tokenize import tokenize
from duologue.tokenize.architecture import Architecture
from duologue.tokenize.encoder import HubertTokenizer
from duologue.tokenize.importing import import_tokenizer
from duologue.tokenize.tokenizer import read_about
from duologue.tokenize.windows import units_of, window_frames, window_step

HZ = 16_000
LAYER = 11
PIECE = 100 * HZ
CONV = {
    50: "[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2",
    25: "[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 3",
}


def fairseq_model(rate: int, checkpoint: Path) -> Any:
    """Build fairseq's base model with random weights, save it as fairseq does, and return it."""
    from fairseq import checkpoint_utils
    from fairseq.data import Dictionary
    from fairseq.models.hubert.hubert import HubertConfig, HubertModel
    from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig
    from omegaconf import OmegaConf

    torch.manual_seed(0)
    model_cfg = OmegaConf.structured(HubertConfig(label_rate=rate, conv_feature_layers=CONV[rate]))
    task_cfg = OmegaConf.structured(HubertPretrainingConfig(data="/", labels=["km"], label_rate=rate))
    model = HubertModel(model_cfg, task_cfg, [Dictionary()]).eval()
    cfg = {
        name: OmegaConf.to_container(part, enum_to_str=True)
        for name, part in (("model", model_cfg), ("task", task_cfg))
    }
    checkpoint_utils.torch_persistent_save({"cfg": cfg, "model": model.state_dict()}, str(checkpoint))
    return model


def fairseq_features(model: Any, channel: np.ndarray, device: str) -> np.ndarray:
    """Return what fairseq's reader gives for a channel, float32 `[frames, dim]`: pieces of 100 s, end to end."""
    parts = []
    with torch.inference_mode():
        for first in range(0, len(channel), PIECE):
            source = torch.from_numpy(channel[first : first + PIECE]).to(device)[None]
            features, _ = model.extract_features(source, padding_mask=None, mask=False, output_layer=LAYER)
            parts.append(features[0].float().cpu())
    return torch.cat(parts).numpy()


def audio_of(seconds: float) -> np.ndarray:
    """Return so many seconds of the bundled call, float32 `[2, samples]`, as often as it takes."""
    call = bundled.directory() / "call" / "auto_repairs.flac"
    audio = read_channels([(call, 0), (call, 1)], HZ)
    samples = round(seconds * HZ)
    return np.tile(audio, -(-samples // audio.shape[1]))[:, :samples]


def operations(shape: Architecture) -> float:
    """Return the floating point operations that matrix products take for a second of a long channel.

    Convolutions are computed once; windows of the transformer overlap. Positions are computed by Fourier transforms:
    four products of real numbers for each complex one, and a block of two kernels for each kernel's worth of frames.
    """
    rate, once, channels = HZ, 0.0, 1
    for out, kernel, stride in shape.conv:
        rate //= stride
        once += 2 * rate * channels * kernel * out
        channels = out
    once += 2 * shape.rate * shape.dim * channels
    frames, width = window_frames(shape.rate), shape.dim / shape.position_groups
    layer = 2 * frames * (4 * shape.dim**2 + 2 * shape.dim * shape.feed) + 4 * frames**2 * shape.dim
    positions = 8 * frames * shape.dim * width
    return once + (shape.layers * layer + positions) * shape.rate / window_step(shape.rate)


def peak(device: str, dtype: torch.dtype) -> float:
    """Return the operations a second that a large matrix product reaches here."""
    size = 8192 if device != "cpu" else 2048
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / min(seconds_of(lambda: _finished(left @ right, device)) for _ in range(5))


def _finished(value: Any, device: str) -> Any:
    if device != "cpu":
        torch.cuda.synchronize()
    return value


def drift(model: Any, tokenizer: HubertTokenizer, device: str) -> dict[str, int]:
    """Return how many units a channel of ten minutes has, and how many fairseq's reader gives."""
    shape = Architecture.from_dict(tokenizer.identity["architecture"])
    samples = 600 * HZ
    lengths = [min(PIECE, samples - first) for first in range(0, samples, PIECE)]
    silence = np.zeros((1, samples), np.float32)
    (units,) = tokenizer.encode([[silence]])
    assert isinstance(units, np.ndarray)
    # A piece of fairseq's own, to be sure that the arithmetic is its.
    short = fairseq_features(model, silence[0, : 10 * HZ], device)
    if len(short) != shape.frames_of(10 * HZ):
        raise AssertionError("fairseq gives another number of frames than its convolutions")
    return {
        "seconds": 600,
        "units_due": units_of(samples, shape.hop),
        "duologue": units.shape[1],
        "fairseq": sum(shape.frames_of(length) for length in lengths),
    }


def measure(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Time both, compare their units, and return the figures."""
    if options.device == "cpu":
        torch.set_num_threads(options.threads)
    model = fairseq_model(options.rate, directory / "hubert.pt").to(options.device)
    audio = audio_of(options.seconds)
    features = fairseq_features(model, audio[0][: 60 * HZ], options.device)
    kmeans = KMeans(500, n_init=1, max_iter=20, random_state=0).fit(features)
    np.save(directory / "centroids.npy", kmeans.cluster_centers_)
    import_tokenizer(
        str(directory / "hubert.pt"),
        str(directory / "centroids.npy"),
        directory / "tokenizer",
        layer=LAYER,
        precision=options.precision,
    )
    about = read_about(directory / "tokenizer")
    tokenizer = HubertTokenizer.load(directory / "tokenizer", about, device=options.device, batch=options.batch)

    def fairseq() -> list[np.ndarray]:
        return [kmeans.predict(fairseq_features(model, channel, options.device)) for channel in audio]

    def duologue() -> np.ndarray:
        (units,) = tokenizer.encode([[audio]])
        assert isinstance(units, np.ndarray)
        return units

    ways: dict[str, Callable[[], Any]] = {"fairseq": fairseq, "duologue": duologue}
    seconds, results = interleaved(ways, options.runs)
    shape = Architecture.from_dict(about["identity"]["architecture"])
    least = [
        min(len(one), other.shape[-1]) for one, other in zip(results["fairseq"], results["duologue"], strict=True)
    ]
    agreement = [
        float(np.mean(one[:count] == other[:count]))
        for one, other, count in zip(results["fairseq"], results["duologue"], least, strict=True)
    ]
    channel_seconds = audio.shape[0] * audio.shape[1] / HZ
    useful = operations(shape) * channel_seconds
    reached = peak(options.device, torch.bfloat16 if options.precision == "bfloat16" else torch.float32)
    return {
        "model": f"HuBERT base, {options.rate} Hz, layer {LAYER}, random weights",
        "precision": options.precision,
        "device": torch.cuda.get_device_name() if options.device != "cpu" else f"CPU, {options.threads} threads",
        "channel_seconds": channel_seconds,
        "runs": options.runs,
        "times_real_time": {name: round(channel_seconds / value, 2) for name, value in seconds.items()},
        "ratio": round(seconds["fairseq"] / seconds["duologue"], 2),
        "share_of_peak": round(useful / seconds["duologue"] / reached, 3),
        "peak_gflops": round(reached / 1e9),
        "same_units": round(float(np.mean(agreement)), 4),
        "ten_minutes": drift(model, tokenizer, options.device),
        "files": from_files(options, directory) if options.files else None,
        **machine(),
    }


def from_files(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Time `tokenize` from 8 kHz mu-law files on the disk to a unit set, in one process."""
    calls = directory / "calls"
    calls.mkdir()
    call, _ = soundfile.read(bundled.directory() / "call" / "auto_repairs.flac", dtype="float32")
    for index in range(options.files):
        soundfile.write(calls / f"{index:05d}.wav", np.roll(call, 997 * index, axis=0), 8000, subtype="ULAW")
    write_recordings([str(calls)], directory / "manifest")
    took = seconds_of(
        lambda: tokenize(
            directory / "manifest", directory / "units", tokenizer=str(directory / "tokenizer"), rows_per_shard=64
        )
    )
    hours = options.files * len(call) / 8000 / 3600
    return {
        "files": options.files,
        "hours": round(hours, 3),
        "seconds": round(took, 2),
        "times_real_time": round(hours * 3600 / took, 1),
    }


def main() -> int:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--rate", type=int, choices=sorted(CONV), default=50, help="frames a second")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    parser.add_argument(
        "--batch", type=int, help="windows that are computed at once; by default what the device likes"
    )
    parser.add_argument("--seconds", type=float, default=110.0, help="of the call; two channels")
    parser.add_argument("--runs", type=int, default=3, help="of each, of which the median counts")
    parser.add_argument("--files", type=int, default=0, help="tokenize so many calls from the disk as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        figures = measure(options, Path(directory))
    if options.json:
        print(json.dumps(figures))
        return 0
    drifted = figures["ten_minutes"]
    print(f"{figures['model']}, {figures['precision']}; {figures['device']}")
    print(f"{figures['channel_seconds']:.0f} s of audio, median of {figures['runs']} runs in turn")
    for name, value in figures["times_real_time"].items():
        print(f"{name:>12} {value:>10,.2f} times real time")
    print(f"{'ratio':>12} {figures['ratio']:>10,.2f}")
    print(f"{figures['share_of_peak']:.1%} of the {figures['peak_gflops']:,} GFLOP/s of a matrix product here")
    print(f"{figures['same_units']:.2%} of the units are those of fairseq's pieces of 100 s, place by place")
    print(
        f"a channel of ten minutes is due {drifted['units_due']:,} units: "
        f"Duologue gives {drifted['duologue']:,}, fairseq's reader {drifted['fairseq']:,}"
    )
    if figures["files"]:
        files = figures["files"]
        print(f"{files['files']} files, {files['hours']} h of calls: {files['times_real_time']:,} times real time")
    print(where(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
