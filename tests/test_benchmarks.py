import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def test_corpora_measures_every_part_and_prints_its_table():
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "corpora.py"), "--quick"], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    titles = [line.split(",")[0] for line in done.stdout.splitlines() if line and not line.startswith(" ")]
    assert titles[:6] == [
        "runs in turn",
        "manifest of 20 calls and their transcripts",
        "decode 20 s of mu-law SPHERE",
        "decode 30 s of shorten-compressed mu-law SPHERE",
        "activity in 5 s",
        "tokenize",
    ]
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("  ")]
    assert len(rows) == 2 + 4 + 3 + 4 + 2
    rates, memory = [row[-2] for row in rows[:-2]], [row[-1] for row in rows[-2:]]
    assert all(float(number.replace(",", "")) > 0 for number in rates + memory)


def test_shards_measures_every_part_and_names_what_is_missing():
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "shards.py"), "--quick", "--json"],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert [part["part"] for part in figures["parts"]] == [
        "write units",
        "read units",
        "write sequences",
        "read sequences",
        "train: batches of 8 sequences",
    ]
    for part in figures["parts"]:
        rates = {row["what"]: row["samples_per_s"] for row in part["rows"]}
        assert all(rate > 0 for rate in rates.values())
        for name in ("duologue", "webdataset", "mosaicml-streaming", "litdata"):
            assert (name in rates) != (name in figures["missing"])


def test_growth_measures_time_and_memory_of_a_mix_from_outside(tmp_path: Path):
    command = [sys.executable, str(BENCHMARKS / "growth.py"), "--out", str(tmp_path / "growth"), "--quick", "--json"]
    done = subprocess.run([*command, "--part", "mix", "--workers", "1"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    (part,) = json.loads(done.stdout)["parts"]
    small, large = part["rows"]
    assert large["hours"] == 2 * small["hours"]
    assert [row["pipelines"][0]["inputs"] for row in part["rows"]] == [18, 36]
    for row in part["rows"]:
        assert row["cpu_s"] > 0 and 50 < row["peak_mb"] < 4000 and 0 < row["beam_share"] < 1
    assert 0.5 < part["memory_ratio"]["1"] < 2 and not list((tmp_path / "growth").iterdir())
