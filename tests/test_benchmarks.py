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
