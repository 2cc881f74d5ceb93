"""Thousands of damaged files: each is read, or refused with a reason; nothing crashes, hangs, or eats memory.

Some hundreds are tried by default; `DUOLOGUE_FUZZ=10000` tries so many.
"""

from __future__ import annotations

import io
import os
import re
import resource
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from duologue.errors import UserError
from duologue.formats import audio, seeds
from duologue.formats.rejects import Unusable
from duologue.manifests.fisher import write_fisher
from duologue.manifests.fisher_tables import read_tables
from duologue.manifests.fisher_transcript import read_transcript
from duologue.manifests.fisher_tree import Tree
from tests.formats.decoding import read
from tests.manifests.fisher_corpus import SPHERE, calldata, pindata, put, transcript, ulaw

CASES = int(os.environ.get("DUOLOGUE_FUZZ", "300"))
EXTREME = [b"0", b"-1", b"1", b"255", b"65536", b"2147483647", b"4294967295", b"99999999999999999999", b"nan", b""]
ROWS = [
    "0.10 0.95 A: hello [laughter]",
    "0.90 2.00 B: (( oh )) an- t._v.",
    "2.10 2.40 A: fiancé",
    "2.50 2.60 B: (( ))",
]
ROW = "00001,20021212_22:03:26,ENG01,3,2.5,2602,f.a,no_APHNUM,4,3,2790,m.o,xyz,1,1"


def damaged(data: bytes, random: np.random.Generator) -> bytes:
    """Return the data with one to four things done to it: bits, bytes, numbers, cuts, pieces twice or moved."""
    for _ in range(random.integers(1, 5)):
        if not data:
            return data
        place, end = sorted(int(number) for number in random.integers(0, len(data) + 1, 2))
        # Most of what decides stands at the head of a file.
        if random.random() < 0.5:
            place, end = place % 300, place % 300 + 1 + (end - place) % 40
        kind = random.integers(7)
        if kind == 0:
            data = data[:place] + bytes([random.integers(256)]) + data[place + 1 :]
        elif kind == 1:
            data = data[:place]
        elif kind == 2:
            data = data[:place] + data[end:]
        elif kind == 3:
            data = data[:end] + data[place:]
        elif kind == 4:
            data = data[:place] + random.bytes(int(random.integers(1, 30))) + data[place:]
        elif kind == 5:
            data = data[:place] + data[end:] + data[place:end]
        elif numbers := list(re.finditer(rb"-?[0-9]+", data[:2000])):
            number = numbers[random.integers(len(numbers))]
            data = data[: number.start()] + EXTREME[random.integers(len(EXTREME))] + data[number.end() :]
    return data


@contextmanager
def memory_for(more: int) -> Iterator[None]:
    """Let the block take so many bytes beyond what the process has."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def fuzz(sources: list[bytes], check: Callable[[bytes], str]) -> Counter[str]:
    """Check damaged copies of the sources, a fourth of `CASES`, and count how they came out."""
    came_out: Counter[str] = Counter()
    with memory_for(1 << 30):
        for case in range(CASES // 4):
            random = seeds.generator("fuzz", check.__name__, case)
            came_out[check(damaged(sources[case % len(sources)], random))] += 1
    return came_out


def wav(subtype: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros((400, 2)), 8000, format="WAV", subtype=subtype)
    return file.getvalue()


def spheres() -> list[bytes]:
    stream = (SPHERE / "qlpc_ar2_stereo.shn").read_bytes()
    packed = ulaw(4096, rate=16000)[:1024].replace(b"-s4 ulaw", b"-s26 pcm,embedded-shorten-v2.00")
    packed = packed.replace(b"sample_n_bytes -i 1", b"sample_n_bytes -i 2")[:1024] + stream
    names = ("pcm16be_stereo.sph", "pcm32le_mono.sph", "alaw_allcodes.sph")
    return [packed, ulaw(800), *((SPHERE / name).read_bytes() for name in names)]


@pytest.mark.parametrize("kind", ["sphere", "wav"])
def test_damaged_audio_is_read_or_refused(tmp_path, kind):
    path = tmp_path / "fe_03_00001.sph"

    def check(data: bytes) -> str:
        path.write_bytes(data)
        try:
            decoded, rate = read(path)
        except Unusable as refusal:
            assert refusal.message
            return refusal.reason
        assert audio.probe(path) == audio.AudioInfo(rate, *decoded.shape)
        assert decoded.dtype == np.float32
        assert np.isfinite(decoded).all()
        return "read"

    check.__name__ = kind
    came_out = fuzz(spheres() if kind == "sphere" else [wav("PCM_16"), wav("ULAW"), wav("FLOAT")], check)
    assert set(came_out) <= {"read", "undecodable", "empty", "empty_file", "nan_audio"}
    assert came_out["read"] and came_out["undecodable"]


def test_damaged_transcripts_are_read_or_refused_row_by_row():
    def transcripts(data: bytes) -> str:
        found = read_transcript(data, "00001", 2.5)
        for turn in found.turns:
            assert turn.channel in (0, 1)
            assert 0 <= turn.start_s < turn.end_s <= 2.5
            assert turn.text.isprintable()
        assert all(error.reason and error.message for _, error in found.rejects)
        return "rejects" if found.rejects else "whole"

    text = transcript("00001", ROWS)
    came_out = fuzz([text.encode(), text.encode("latin-1"), text.replace("\n", "\r\n").encode()], transcripts)
    assert came_out["rejects"] and came_out["whole"]


def test_damaged_tables_are_read_or_refused_row_by_row(tmp_path):
    table = put(tmp_path / "fe_03_p1_calldata.tbl", "")
    sources = {
        "calldata": calldata(ROW, ROW.replace("00001", "00002")),
        "pindata": pindata(
            "2602,F,31,16,English,PA,2,00001_A/f.a;00002_A/f.a", '2790,M,NA,12,"X, Y",NY,1,00001_B/m.o'
        ),
        "filelist": "fe_03_p1_sph1\t00001\tfm\tLDC\nfe_03_p1_sph1\t00002\tfm\tBBN\n",
    }
    turn = iter(range(CASES))

    def tables(data: bytes) -> str:
        kind = list(sources)[next(turn) % len(sources)]
        table.write_bytes(data)
        paths = {name: [table] if name == kind else [] for name in sources}
        try:
            facts, rejects = read_tables(Tree(tmp_path, {}, paths))
        except UserError as error:
            assert str(table) in str(error)
            return "refused"
        for number, fact in facts.items():
            assert re.fullmatch("[0-9]{5}", number)
            assert all(pin == "" or pin.isdigit() for pin in fact.pins)
            assert all(value and value.isprintable() for value in fact.about.values())
        assert all(reject.reason == "malformed" for reject in rejects)
        return "rejects" if rejects else "whole"

    came_out = fuzz([content.encode() for content in sources.values()], tables)
    assert all(came_out[outcome] for outcome in ("refused", "rejects", "whole"))


def test_a_corpus_of_damaged_files_is_listed(tmp_path):
    corpus = tmp_path / "corpus"
    audios, text = spheres(), transcript("00001", ROWS).encode()
    put(corpus / "fe_03_00000.sph", ulaw(20_000))
    for case in range(1, 41):
        random = seeds.generator("fuzz", "corpus", case)
        put(corpus / f"fe_03_{case:05}.sph", damaged(audios[case % len(audios)], random))
        put(corpus / f"fe_03_{case:05}.txt", damaged(text, random))
    card = write_fisher([str(corpus)], tmp_path / "out")
    assert card.totals["inputs"] == card.totals["samples"] + card.totals["rejects"] == 41
    assert 0 < card.totals["samples"] < 41
