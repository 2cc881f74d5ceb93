"""Makes small corpora of the shape of Fisher English, which cannot be redistributed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

SPHERE = Path(__file__).parent.parent / "data" / "sphere"
SHORTEN = SPHERE / "fisher_coding" / "call30s_2ch_ulaw_shorten.sph"
HEADER = (
    "CALL_ID,DATE_TIME,TOPICID,SIG_GRADE,CNV_GRADE,APIN,ASX.DL,APHNUM,APHSET,APHTYP,BPIN,BSX.DL,BPHNUM,BPHSET,BPHTYP"
)
PINS = "PIN,SEX,AGE,YEARS_EDU,NATIVE_LANG,WHERE_RAISED,CALLS,SIDES"


def ulaw(samples: int = 80, channels: int = 2, rate: int = 8000, byte: int = 0x7F) -> bytes:
    """Return a SPHERE file of plain mu-law samples, all the same."""
    fields = (
        f"sample_count -i {samples}\nchannel_count -i {channels}\nsample_rate -i {rate}\nsample_n_bytes -i 1\n"
        "sample_byte_format -s1 1\nsample_sig_bits -i 8\nsample_coding -s4 ulaw\nend_head\n"
    )
    return f"NIST_1A\n   1024\n{fields}".encode().ljust(1024) + bytes([byte]) * samples * channels


def put(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def transcript(number: str, rows: Sequence[str], by: str = "at the LDC") -> str:
    return f"# fe_03_{number}.sph\n# Transcribed {by}\n\n" + "".join(f"{row} \n\n" for row in rows)


def calldata(*rows: str) -> str:
    return "\n".join([HEADER, *rows]) + "\n"


def pindata(*rows: str) -> str:
    return "\n".join([PINS, *rows]) + "\n"


def look_alike(corpus: Path) -> None:
    """Make both parts, in both disc namings, with all that goes wrong with them."""
    audio1, audio2 = corpus / "LDC2004S13", corpus / "LDC2005S13"
    text1, text2 = corpus / "LDC2004T19" / "fe_03_p1_tran", corpus / "LDC2005T19"
    (audio1 / "fe_03_p1_sph1" / "audio" / "000").mkdir(parents=True)
    shutil.copy(SHORTEN, audio1 / "fe_03_p1_sph1" / "audio" / "000" / "fe_03_00001.sph")
    put(audio1 / "fisher_eng_tr_sp_d1" / "audio" / "000" / "fe_03_00092.sph", ulaw(16_000))
    put(audio1 / "fisher_eng_tr_sp_d2" / "audio" / "012" / "fe_03_01243.sph", ulaw())
    put(audio1 / "fisher_eng_tr_sp_d7" / "audio" / "058" / "fe_03_05850.sph", ulaw(8_000))
    put(audio2 / "fe_03_p2_sph1" / "audio" / "058" / "fe_03_05850.sph", ulaw(8_000))
    put(audio2 / "fe_03_p2_sph1" / "audio" / "058" / "fe_03_05851.WAV", ulaw(4_000))
    put(audio2 / "fe_03_p2_sph1" / "audio" / "058" / "fe_03_05852", ulaw(8_000))
    put(audio2 / "fe_03_p2_sph1" / "audio" / "058" / "fe_03_05853.sph", ulaw(8_000)[:3000])

    put(
        text1 / "data" / "trans" / "000" / "fe_03_00001.txt",
        transcript(
            "00001",
            [
                "3.76 5.54 A: and i generally prefer",
                "5.82 6.48 A: eating at home",
                "6.20 9.52 B: [laughter] i work for (( )) and an- at t._v. [noise]",
                "9.90 bad row",
                "29.50 30.40 B: (( bye ))",
            ],
        ),
    )
    put(text1 / "data" / "trans" / "000" / "fe_03_00003.txt", transcript("00003", ["0.00 1.00 A: hello"]))
    put(
        text1 / "data" / "trans" / "000" / "fe_03_00092.txt",
        transcript(
            "00092", ["0.00 1.21 B: hello", "0.73 1.93 A: (( oh yeah ))", "1.30 1.90 B: [mn]"], "by BBN/WordWave"
        ),
    )
    put(text1 / "data" / "bbn_orig" / "000" / "auto-segmented" / "fe_03_00092.trn", "HELLO (fe_03_00092-A-0001)\n")
    put(text1 / "data" / "bbn_orig" / "000" / "originals" / "fe_03_00092.txo", "L:  Hello.\n")
    put(text1 / "data" / "trans" / "058" / "fe_03_05850.txt", transcript("05850", ["0.10 0.90 A: hi"]))
    for place in (text2, text2 / "fe_03_p2_tran"):
        rows = ["0.10 0.50 A: hi", "0.60 0.95 B: hi there"]
        put(place / "data" / "trans" / "058" / "fe_03_05852.txt", transcript("05852", rows))

    put(
        text1 / "doc" / "fe_03_p1_calldata.tbl",
        calldata(
            "00001,20021212_22:03:26,ENG01,3,2.5,2602,f.a,no_APHNUM,4,3,2790,m.o,xyz,1,1",
            "00092,20021215_10:00:00,ENG04,4,4,2637,m.a,,,,02602,f.a,,,",
            "00003,20021213_11:00:00,ENG02,4,4,3001,f.a,,,,3002,f.a,,,",
            "00500,20021218_11:00:00,ENG02,4,4,3003,f.a,,,,3004,f.a,,,",
            "05850,20030301_11:00:00,ENG02,4,4,3005",
        ),
    )
    put(
        text1 / "doc" / "fe_03_pindata.tbl",
        pindata(
            "2602,F,31,16,English,PA,2,00001_A/f.a;00092_B/f.a",
            "2637,F,54,16,English,WA,2,00092_A/m.a;08175_A/f.a",
            "4000,M,NA,12,English,NY,1,05850_B/m.a",
        ),
    )
    put(text1 / "doc" / "fe_03_p1_filelist.tbl", "fe_03_p1_sph1\t00001\tfm\tLDC\nfe_03_p1_sph7\t05850\tfm\tBBN\n")
