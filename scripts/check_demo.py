"""Check what a demo made: every artefact verifies, the loss falls in every stage, and stage 3 profits from stage 2.

python scripts/check_demo.py duologue-demo
"""

from __future__ import annotations

import sys
from pathlib import Path

from duologue.formats.metrics import read_lines
from duologue.pipelines.verify import verify


def problems_of(demo: Path) -> list[str]:
    """Return what is wrong with a demo's directory, a sentence each."""
    problems = []
    for room in ("manifests", "units", "sequences"):
        for directory in sorted((demo / room).iterdir()):
            problems += verify(directory)
    losses = {run.name: [line["loss"] for line in read_lines(run)] for run in sorted((demo / "runs").iterdir())}
    for name, values in losses.items():
        begin, end = sum(values[:3]) / 3, sum(values[-3:]) / 3
        print(f"{name}: loss {begin:.3f} -> {end:.3f} in {len(values)} steps")
        if end >= begin:
            problems.append(f"{name}: the loss does not fall")
    if losses["stage3"][0] >= losses["stage3-from-nothing"][0]:
        problems.append("stage 3 does not start lower from stage 2 than from nothing")
    problems += [
        f"{name} is missing" for name in ("report.html", "speech/stage3-stream.flac") if not (demo / name).exists()
    ]
    return problems


if __name__ == "__main__":
    found = problems_of(Path(sys.argv[1]))
    print("\n".join(found) if found else "all is well")
    sys.exit(bool(found))
