"""A corpus of the shape of Fisher English, which cannot be redistributed, of any size."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import soundfile

from duologue import bundled
from duologue.manifests.fisher_known import bad_calls

RATE = 8000
ROW_S = 3.0
# Audio and transcripts of the two parts, and the number of the first call in each.
PARTS = [
    ("LDC2004S13/fe_03_p1_sph1", "LDC2004T19", "fe_03_p1", 1),
    ("LDC2005S13/fe_03_p2_sph1", "LDC2005T19", "fe_03_p2", 5851),
]
HEADER = (
    "CALL_ID,DATE_TIME,TOPICID,SIG_GRADE,CNV_GRADE,APIN,ASX.DL,APHNUM,APHSET,APHTYP,BPIN,BSX.DL,BPHNUM,BPHSET,BPHTYP"
)
WORDS = ["well", "i", "think", "so", "yeah", "we", "do", "it", "most", "of", "the", "time", "you", "know"]


def write_call(path: Path, seconds: float) -> Path:
    """Write the bundled call, over and over, as a plain two-channel mu-law SPHERE file of so many seconds."""
    call, _ = soundfile.read(bundled.directory() / "call" / "auto_repairs.flac", dtype="float32")
    samples = round(seconds * RATE)
    audio = np.tile(call, (-(-samples // len(call)), 1))[:samples]
    soundfile.write(path, audio, RATE, format="NIST", subtype="ULAW")
    return path


def transcript(number: str, seconds: float, draw: np.random.Generator) -> str:
    """Return a transcript of rows of eight words and three seconds, the sides in turn, half a second overlapped."""
    rows = [f"# fe_03_{number}.sph", "# Transcribed at the LDC", ""]
    for index, start in enumerate(np.arange(0, seconds - ROW_S, ROW_S - 0.5)):
        words = " ".join(draw.choice(WORDS, 8))
        rows += [f"{start:.2f} {start + ROW_S:.2f} {'AB'[index % 2]}: {words} ", ""]
    return "\n".join(rows) + "\n"


def write_tree(corpus: Path, calls: int, seconds: float) -> Path:
    """Write both parts of a corpus, as LDC names its directories and as lhotse's recipe wants them.

    Every call is a name of one and the same file, so that ten thousand need no more of the disk than one.

    Args:
        corpus: the directory to make.
        calls: in both parts together.
        seconds: length of each.
    """
    corpus.mkdir(parents=True)
    audio = write_call(corpus / "call", seconds)
    draw = np.random.default_rng(0)
    for part, (sound, text, name, first) in enumerate(PARTS):
        (corpus / sound / "audio").mkdir(parents=True)
        (corpus / text / "data" / "trans").mkdir(parents=True)
        (corpus / text / "doc").mkdir()
        usable = (number for number in range(first, first + 5850) if f"{number:05d}" not in bad_calls())
        table = [HEADER]
        for _ in range(calls // 2 + (part == 0) * (calls % 2)):
            number = f"{next(usable):05d}"
            folder = corpus / sound / "audio" / number[:3]
            folder.mkdir(exist_ok=True)
            os.link(audio, folder / f"fe_03_{number}.sph")
            folder = corpus / text / "data" / "trans" / number[:3]
            folder.mkdir(exist_ok=True)
            (folder / f"fe_03_{number}.txt").write_text(transcript(number, seconds, draw))
            pins = draw.integers(1000, 13000, 2)
            table.append(f"{number},20021212_22:03:26,ENG01,3,2.5,{pins[0]},f.a,,4,3,{pins[1]},m.o,,1,1")
        (corpus / text / "doc" / f"{name}_calldata.tbl").write_text("\n".join(table) + "\n")
    return corpus
