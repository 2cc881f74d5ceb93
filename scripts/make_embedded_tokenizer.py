"""Make the tokenizer that ships in the package, from bundled and synthesized speech.

    python scripts/make_embedded_tokenizer.py            write it into the package
    python scripts/make_embedded_tokenizer.py --check    make it again, and compare byte for byte

The speech is every bundled dialogue, spoken by the embedded engine, and the bundled call.
"""

from __future__ import annotations

import filecmp
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from duologue import bundled
from duologue.formats.audio import read_channels
from duologue.formats.rejects import Unusable
from duologue.manifests.dialogues import write_dialogues
from duologue.manifests.manifest import Manifest
from duologue.manifests.schema import Dialogue
from duologue.synth.dialogue import speak
from duologue.synth.engines import EngineChoice, load_engine
from duologue.tokenize.fit import fit
from duologue.tokenize.mfcc import SAMPLE_RATE
from duologue.tokenize.tokenizer import EMBEDDED, directory_of


def _spoken(scratch: Path) -> Iterator[np.ndarray]:
    for name, shape, licence in bundled.DIALOGUES:
        source = bundled.directory() / "dialogues" / name
        write_dialogues([str(source)], scratch / name, shape=shape, licence=licence)
        rows = [row for row in Manifest(scratch / name).rows() if isinstance(row, Dialogue)]
        texts = [(row.id, [(turn.speaker, turn.text) for turn in row.turns]) for row in rows]
        with load_engine(EngineChoice("espeak")) as engine:
            for spoken in speak(texts, engine, seed=0):
                if not isinstance(spoken, Unusable):
                    yield from spoken.audio.astype(np.float32) / 32768


def _channels(scratch: Path) -> Iterator[np.ndarray]:
    yield from _spoken(scratch)
    call = bundled.directory() / "call" / "auto_repairs.flac"
    yield from read_channels([(call, 0), (call, 1)], SAMPLE_RATE)


def main() -> int:
    """Make the tokenizer; return 1 if a check finds a difference."""
    torch.set_num_threads(1)
    package = directory_of(EMBEDDED)
    with tempfile.TemporaryDirectory() as name:
        made = Path(name) / "made"
        print(fit(_channels(Path(name)), made))
        files = sorted(path.name for path in made.iterdir())
        if "--check" in sys.argv[1:]:
            different = [file for file in files if not filecmp.cmp(made / file, package / file, shallow=False)]
            print(f"different: {', '.join(different)}" if different else "the same, byte for byte")
            return int(bool(different))
        package.mkdir(exist_ok=True)
        for file in files:
            (package / file).write_bytes((made / file).read_bytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
