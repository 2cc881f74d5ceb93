from __future__ import annotations

from pathlib import Path

import pytest

from duologue.errors import UserError
from duologue.formats.rejects import Reject
from duologue.manifests.fisher_tables import Facts, read_tables
from duologue.manifests.fisher_tree import Tree
from tests.manifests.fisher_corpus import HEADER, calldata, pindata, put

ROW = "00001,20021212_22:03:26,ENG01,3,2.5,2602,f.a,no_APHNUM,4,3,2790,m.o,xyz,1,1"


def read(place: Path, **tables: str | bytes) -> tuple[dict[str, Facts], list[Reject]]:
    found = {
        kind: [put(place / f"fe_03_p1_{kind}.tbl", tables[kind])] if kind in tables else []
        for kind in ("calldata", "filelist", "pindata")
    }
    return read_tables(Tree(place, {}, found))


def test_a_corpus_without_tables_has_no_facts(tmp_path):
    assert read(tmp_path) == ({}, [])


def test_columns_are_found_by_name_in_any_order(tmp_path):
    facts, rejects = read(tmp_path, calldata="BPIN,APIN,CALL_ID\r\n2790,2602,1\r\n")
    assert facts == {"00001": Facts(["2602", "2790"], {})}
    assert not rejects


def test_damaged_rows_cost_only_themselves(tmp_path):
    rows = [
        '00002,"never closed',
        "x0003" + ROW[5:],
        "00004,1,2",
        ROW[:5] + ROW[5:],
        "00005\x00" + ROW[5:],
        "00006" + ROW[5:],
    ]
    facts, rejects = read(tmp_path, calldata=calldata(*rows))
    assert list(facts) == ["00001", "00006"]
    assert [reject.id for reject in rejects] == [f"fe_03_p1_calldata.tbl:{line}" for line in (2, 3, 4, 6)]
    assert {reject.reason for reject in rejects} == {"malformed"}


def test_the_first_of_two_rows_on_a_call_counts(tmp_path):
    facts, rejects = read(tmp_path, calldata=calldata(ROW, ROW.replace("2602", "9999").replace("ENG01", "ENG02")))
    assert facts["00001"].pins == ["2602", "2790"]
    assert facts["00001"].about["topic"] == "ENG01"
    assert not rejects


def test_speakers_come_from_pins_where_there_is_no_call_table(tmp_path):
    facts, rejects = read(
        tmp_path,
        pindata=pindata("2637,F,54,16,English,WA,2,06972_A/m.a;08175_A/f.a", '12,M,NA,,"X, Y",NA,1,08175_B/m.o'),
        filelist="fe_03_p2_sph1\t08175\tfm\tLDC\nfe_03_p2_sph2\t09999\tff\tBBN\nno row\n",
    )
    assert facts["06972"] == Facts(["2637", ""], {"sex_0": "m", "dialect_0": "a"})
    assert facts["08175"].pins == ["2637", "12"]
    assert facts["08175"].about == {
        "sex_0": "f",
        "sex_1": "m",
        "dialect_0": "a",
        "age_0": "54",
        "education_years_0": "16",
        "native_language_0": "English",
        "raised_0": "WA",
        "dialect_1": "o",
        "native_language_1": "X, Y",
    }
    assert facts["09999"] == Facts(["", ""], {"sex_0": "f", "sex_1": "f"})
    assert [reject.id for reject in rejects] == ["fe_03_p1_filelist.tbl:3"]


def test_pins_that_are_none_are_unknown(tmp_path):
    facts, _ = read(tmp_path, calldata=calldata("00001,,,,,0,,,,,none,,,,", "00002,,,,,00012,,,,,,,,,"))
    assert facts["00001"].pins == ["", ""]
    assert facts["00002"].pins == ["12", ""]


def test_latin1_is_read_where_utf8_is_not(tmp_path):
    facts, rejects = read(tmp_path, pindata="1,M,20,12,Español,PR,1,00001_A/m.o\n".encode("latin-1"))
    assert facts["00001"].about["native_language_0"] == "Español"
    assert not rejects


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has 0 bytes"),
        ("CALL_ID,APIN\n1,2\n", "names no column BPIN"),
        ("garbage\n", "names no column CALL_ID"),
        (HEADER.replace(",", "\t"), "names no column CALL_ID"),
    ],
)
def test_tables_that_are_none_are_said(tmp_path, content, message):
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, calldata=content)
    assert "fe_03_p1_calldata.tbl" in str(caught.value)
