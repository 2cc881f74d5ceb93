import base64
import html
import io
import os
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from duologue.errors import UserError
from duologue.evaluate import report
from duologue.evaluate.artefacts import collect
from duologue.evaluate.curve import write_curve
from duologue.evaluate.excerpts import SECONDS
from duologue.evaluate.report import write_report
from duologue.evaluate.unit_sets import survey_sets
from duologue.formats.card import write_card
from duologue.formats.rejects import Reject
from duologue.tokenize.fit import fit
from duologue.tokenize.tokenizer import load_tokenizer
from tests.evaluate.making import IDENTITY, UNITS, checks_of, dialogue, sequence_set, training_run, unit_set

SCRIPT = '<script>alert("x")</script> & $x^2$'


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer")
    draw = np.random.default_rng(0)
    level = np.repeat(draw.uniform(0.01, 0.5, 100), 640)
    fit([(level * draw.standard_normal(len(level)) * 0.2).astype(np.float32)], directory, units=UNITS)
    return directory


@pytest.fixture(scope="module")
def road(tmp_path_factory, tokenizer) -> list[Path]:
    """A directory of every kind."""
    root = tmp_path_factory.mktemp("road")
    identity = dict(load_tokenizer(tokenizer).identity)
    samples = [dialogue(number) for number in range(6)]
    rejects = [
        Reject("talk 7", "synthesize", "unspeakable_text", SCRIPT),
        Reject("talk 2", "synthesize", "code", "mostly code", turn=3),
    ]
    unit_set(root / "units", samples, tokenizer=identity, rejects=rejects)
    prints = [sequence_set(root / f"s{stage}", stage, samples, root / "units").fingerprint for stage in (1, 2, 3)]
    first = training_run(root / "run2", 2, prints[1])
    training_run(root / "run3", 3, prints[2], {"kind": "run", "fingerprint": first, "step": 30})
    training_run(root / "run3-cold", 3, prints[2])
    return [root / name for name in ("units", "s1", "s2", "s3", "run2", "run3", "run3-cold")]


@pytest.fixture(scope="module")
def page(road, tokenizer, tmp_path_factory) -> str:
    return write_report(road, tmp_path_factory.mktemp("out") / "report.html", tokenizer).read_text("utf-8")


class _Outline(HTMLParser):
    """Ids, sections, links and what is fetched from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.sections: list[str] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.unnamed_figures = 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        if "id" in values:
            self.ids.append(values["id"])
        if tag == "section":
            self.sections.append(values["id"])
        if tag == "svg" and not values.get("aria-label"):
            self.unnamed_figures += 1
        if tag != "a":
            links = [values.get(key) for key in ("src", "href", "xlink:href", "data", "poster") if values.get(key)]
            self.fetched += [link for link in links if not link.startswith(("#", "data:"))]


def _words(page: str) -> str:
    """The text of a page, in one line."""
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


def _texts(figure: str) -> list[str]:
    return [html.unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", figure)]


def test_every_section_is_there_when_there_is_something_to_show(page):
    assert _Outline(page).sections == [
        "here",
        "rates",
        "duplex",
        "shares",
        "dialogues",
        "streams",
        "training",
        "rejects",
    ]


def test_the_page_fetches_nothing(page):
    outline = _Outline(page)
    assert outline.fetched == []
    assert "link" not in outline.tags
    assert "url(http" not in page
    assert "@import" not in page


def test_the_only_script_is_the_player_which_holds_nothing_of_the_data(page):
    player = (Path(report.__file__).parent / "player.js.jinja").read_text("utf-8")
    assert "</" not in player
    [script] = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert script.strip() == player.strip()
    assert _Outline(page).tags.count("script") == 1


def test_ids_are_unique_and_every_figure_has_a_text_in_its_place(page):
    outline = _Outline(page)
    assert len(outline.ids) == len(set(outline.ids))
    assert outline.tags.count("svg") == 1 + 4 + 1 + 2 + 2 + 3 + 1 + 1
    assert outline.unnamed_figures == 0


def test_references_inside_figures_lead_to_something(page):
    ids = set(_Outline(page).ids)
    referred = set(re.findall(r'(?:href="#|url\(#)([^")]+)', page))
    assert referred <= ids


def test_the_page_is_small(page):
    assert len(page.encode()) < 8_000_000


def test_players_carry_stereo_audio_of_the_length_shown(page):
    clips = re.findall(r'src="data:audio/flac;base64,([^"]+)"', page)
    # Source and resynthesis of two dialogues, and the streams of stages 2 and 3.
    assert len(clips) == 6
    for clip, resynthesis in zip(clips, [False, True, False, True, True, True], strict=True):
        audio, sample_rate = sf.read(io.BytesIO(base64.b64decode(clip)))
        assert sample_rate == 16_000
        assert audio.shape == (round(SECONDS * 16_000), 2)
        peak = np.abs(audio).max()
        assert peak == pytest.approx(0.7, abs=0.001) if resynthesis else 0.2 < peak < 0.6


def test_what_was_made_from_what_is_named(page):
    text = re.sub(r"<[^>]+>", " ", page)
    assert re.search(r"run3\s+run, stage 3\s+s3\s+run2\s+30", text)
    assert "run3-cold, from nothing" in page
    assert "run3, from run2" in page


def test_the_rates_are_those_of_the_dialogues(page):
    # 350 frames of two channels, and two tags in each of 88 chunks, in 14 s.
    assert 2 * 350 + 2 * 88 == 876
    deduplicated = []
    for number in range(6):
        units, count = dialogue(number).units, 0
        for chunk in range(0, 350, 4):
            novel = [
                sum(1 for t in range(chunk, min(chunk + 4, 350)) if t == 0 or row[t] != row[t - 1]) for row in units
            ]
            count += 1 + novel[0] + (1 + novel[1] if novel[1] else 0)
        deduplicated.append(count / 14)
    assert f"units 6 {876 / 14:.1f} {np.median(deduplicated):.1f} " in _words(page)


def test_each_player_has_one_timeline_for_all_of_its_tracks(page):
    players = re.findall(r'<div class="player".*?(?=<div class="player"|</section>)', page, re.DOTALL)
    assert [len(re.findall("<svg", player)) for player in players] == [1] * 4
    assert [len(re.findall("<audio", player)) for player in players] == [2, 2, 1, 1]
    assert [len(re.findall('type="radio"', player)) for player in players] == [2, 2, 0, 0]
    for player in players:
        [seek] = re.findall(r'<input class="seek"[^>]*>', player)
        assert 'max="10.0"' in seek
        assert seek.endswith(" hidden>")
        # The cursor lies on the lanes, not on their labels.
        [inset] = re.findall(r'class="area" style="inset: ([^"]+)"', player)
        top, right, bottom, left = (float(edge.rstrip("%")) for edge in inset.split())
        assert (right, left) == (1.5, 8.5)
        assert 0 < top < bottom < 30


def test_sets_stand_side_by_side_and_each_says_what_it_was_measured_on(tmp_path: Path):
    samples = [dialogue(number) for number in range(2)]
    unit_set(tmp_path / "chats", samples, audio=False)
    checks = [checks_of(sample, [[(0.0, 2.0)], [(2.5, 5.0)]]) for sample in samples]
    unit_set(tmp_path / "calls", samples, audio=False, checks=checks)
    unit_set(tmp_path / "noise", [replace(samples[0], sentences=(), turns=())], audio=False)
    sets = [tmp_path / name for name in ("chats", "calls", "noise")]
    page = write_report(sets, tmp_path / "report.html", excerpts=3).read_text("utf-8")
    text = _words(page)
    assert "measured on voice activity transcript recordings 2 2" in text
    assert "channel 0 talks 14.3 % 42.9 % channel 1 talks 17.9 % 42.9 %" in text
    assert "for want of voice activity and of a transcript: noise." in text
    # Both lines in one figure.
    [offsets] = re.findall(
        r'<svg[^>]*aria-label="Histograms of floor-transfer offsets[^>]*>.*?</svg>', page, re.DOTALL
    )
    assert "calls, voice activity" in offsets
    assert "chats, transcript" in offsets
    # What was heard has a lane for each channel.
    assert page.count(">speech 0<") == page.count(">speech 1<") == 1


def test_more_sets_than_one_figure_can_show_are_drawn_in_several(tmp_path: Path):
    sets = [tmp_path / f"set{number}" for number in range(5)]
    for directory in sets:
        unit_set(directory, [dialogue(0)], audio=False)
    page = write_report(sets, tmp_path / "report.html").read_text("utf-8")
    labels = re.findall(r'aria-label="(Histograms of floor-transfer offsets: [^"]+)"', page)
    assert [re.findall(r"set\d", label) for label in labels] == [["set0", "set1"], ["set2", "set3", "set4"]]
    assert page.count('aria-label="Histograms of deduplicated') == 2


@pytest.mark.parametrize(
    ("sets", "asked", "shown"),
    [
        (1, None, [2]),
        (2, None, [2, 2]),
        (3, None, [2, 1, 1]),
        (5, None, [1, 1, 1, 1, 0]),
        (3, 5, [2, 2, 1]),
        (2, 0, [0, 0]),
    ],
)
def test_dialogues_are_shared_out_among_the_sets(tmp_path: Path, sets: int, asked: int | None, shown: list[int]):
    directories = [tmp_path / f"set{number}" for number in range(sets)]
    for directory in directories:
        unit_set(directory, [dialogue(number) for number in range(3)], audio=False)
    page = write_report(directories, tmp_path / "report.html", excerpts=asked).read_text("utf-8")
    players = re.findall(r'<div class="player".*?(?=<div class="player"|</section>)', page, re.DOTALL)
    assert len(players) == sum(shown)
    artefacts, _ = collect(directories)
    assert [len(one.survey.excerpts) for one in survey_sets(artefacts, 160, asked)] == shown


def test_a_page_without_players_has_no_script(road, tmp_path: Path):
    page = write_report(road[-1:], tmp_path / "run.html").read_text("utf-8")
    assert "script" not in _Outline(page).tags


def test_rejects_are_counted_with_examples(page):
    assert "turn:code" in page
    assert "mostly code" in page
    assert "of 8 inputs" in page


def test_the_same_inputs_give_the_same_bytes_in_any_order_and_place(road, tokenizer, tmp_path: Path):
    named = [road[0], road[1], road[-1]]
    page = write_report(named, tmp_path / "report.html", tokenizer).read_bytes()
    moved = [tmp_path / "elsewhere" / directory.name for directory in named]
    for directory, copy in zip(named, moved, strict=True):
        shutil.copytree(directory, copy)
    again = write_report(moved[::-1], tmp_path / "new" / "folder" / "report.html", tokenizer)
    assert again.read_bytes() == page


def test_markup_in_the_data_stays_text(tmp_path: Path):
    sample = replace(dialogue(1, text=SCRIPT), id=SCRIPT, source=SCRIPT, speakers=(SCRIPT, SCRIPT))
    rejects = [Reject(SCRIPT, "synthesize", "bad", SCRIPT)]
    unit_set(tmp_path / "a<b>&c", [sample], rejects=rejects)
    sequence_set(tmp_path / "s1", 1, [sample], tmp_path / "a<b>&c")
    sequence_set(tmp_path / "s2", 2, [sample], tmp_path / "a<b>&c")
    training_run(tmp_path / "<script>run", 2, "0" * 64)
    training_run(tmp_path / "<script>run2", 2, "0" * 64)
    names = ("a<b>&c", "s1", "s2", "<script>run", "<script>run2")
    page = write_report([tmp_path / name for name in names], tmp_path / "report.html").read_text("utf-8")
    assert page.count("<script") == 1
    assert "a<b>" not in page
    assert "&lt;script&gt;" in page
    assert page.count("$x^2$") > 3
    assert _Outline(page).tags.count("script") == 1


def test_numbers_and_colours_in_the_data_are_drawn_as_they_stand(tmp_path: Path):
    text = "Pi is 3.14159, ink #1b2330."
    unit_set(tmp_path / "at-0.00025", [dialogue(0, text=text)], audio=False)
    for name in ("rate-0.0003", "rate-0.0001"):
        training_run(tmp_path / name, 2, "0" * 64)
    names = ("at-0.00025", "rate-0.0003", "rate-0.0001")
    page = write_report([tmp_path / name for name in names], tmp_path / "report.html").read_text("utf-8")
    drawn = " ".join(_words(figure) for figure in re.findall("<svg.*?</svg>", page, re.DOTALL))
    assert text in drawn and "at-0.00025, transcript" in drawn
    assert "rate-0.0003, from nothing" in drawn and "rate-0.0001, from nothing" in drawn


def test_names_that_begin_with_an_underscore_are_in_the_legends(tmp_path: Path):
    unit_set(tmp_path / "_units", [dialogue(0)], audio=False)
    for name in ("_run", "_other"):
        training_run(tmp_path / name, 2, "0" * 64)
    directories = [tmp_path / name for name in ("_units", "_run", "_other")]
    page = write_report(directories, tmp_path / "report.html").read_text("utf-8")
    figures = re.findall("<svg.*?</svg>", page, re.DOTALL)
    for title, name in (
        ("Deduplicated tokens", "_units"),
        ("Gaps and overlaps", "_units, transcript"),
        ("Stage 2, by start", "_other, from nothing"),
        ("Throughput", "_run"),
    ):
        [figure] = [figure for figure in figures if f">{title}<" in figure]
        assert f"{name}<" in figure
    write_curve(directories[1:], tmp_path / "curve.html")
    assert "_run (stage 2)<" in (tmp_path / "curve.html").read_text("utf-8")


def test_long_names_are_cut_in_figures_so_that_both_ends_are_seen_and_whole_in_tables(tmp_path: Path):
    names = [f"{'a-long-name-' * 8}{end}" for end in ("one", "other")]
    for number, name in enumerate(names):
        unit_set(tmp_path / "units" / name, [dialogue(number)], audio=False)
        training_run(tmp_path / "runs" / name, 2, "0" * 64, {"kind": "hub", "name": "hub/" + "b" * 90})
    directories = [tmp_path / kind / name for kind in ("units", "runs") for name in names]
    page = write_report(directories, tmp_path / "report.html").read_text("utf-8")
    write_curve(directories[2:], tmp_path / "curve.html")
    curves = (tmp_path / "curve.html").read_text("utf-8")
    for text in (page, curves):
        labels = [label for figure in re.findall("<svg.*?</svg>", text, re.DOTALL) for label in _texts(figure)]
        assert max(map(len, labels)) <= 56
        for end in ("one", "other"):
            assert any(re.match(rf"a-long-name-.*….*-{end}\b", label.split("/")[-1]) for label in labels)
    assert all(f"units/{name}<" in page and f"runs/{name}<" in page for name in names)


def test_names_that_are_no_text_are_shown_as_far_as_they_are(tmp_path: Path):
    names = [os.fsdecode(name) for name in (b"units-\xff", b"run-\xff")]
    unit_set(tmp_path / "units", [dialogue(0)], audio=False)
    (tmp_path / "units").rename(tmp_path / names[0])
    training_run(tmp_path / "run", 2, "0" * 64)
    (tmp_path / "run").rename(tmp_path / names[1])
    page = write_report([tmp_path / name for name in names], tmp_path / "report.html").read_text("utf-8")
    assert "units-\N{REPLACEMENT CHARACTER}" in page and "run-\N{REPLACEMENT CHARACTER}" in page
    assert write_curve([tmp_path / names[1]], tmp_path / "curve.html")[0]["name"] == "run-\N{REPLACEMENT CHARACTER}"


def test_without_a_tokenizer_units_are_shown_and_the_page_says_why_they_are_not_heard(road, tmp_path: Path):
    page = write_report(road[:1], tmp_path / "report.html").read_text("utf-8")
    assert "No tokenizer was named" in page
    assert page.count("data:audio/flac") == 2
    assert "Resynthesis from units" not in page


def test_units_of_another_tokenizer_are_not_resynthesised(tokenizer, tmp_path: Path):
    unit_set(tmp_path / "units", [dialogue(0)], audio=False)
    page = write_report([tmp_path / "units"], tmp_path / "report.html", tokenizer).read_text("utf-8")
    assert "another tokenizer" in page
    assert "data:audio" not in page


def test_a_tokenizer_without_a_vocoder_is_said(tokenizer, road, tmp_path: Path):
    mute = tmp_path / "mute"
    shutil.copytree(tokenizer, mute)
    (mute / "vocoder.safetensors").unlink()
    page = write_report(road[:1], tmp_path / "report.html", mute).read_text("utf-8")
    assert "no vocoder" in page


def test_a_missing_tokenizer_is_refused(road, tmp_path: Path):
    with pytest.raises(UserError, match="no tokenizer"):
        write_report(road[:1], tmp_path / "report.html", tmp_path / "nothing")
    assert not (tmp_path / "report.html").exists()


def test_only_what_is_given_is_shown(road, tmp_path: Path):
    run = write_report(road[-1:], tmp_path / "run.html").read_text("utf-8")
    assert _Outline(run).sections == ["here", "training"]
    stage1 = write_report(road[1:2], tmp_path / "s1.html").read_text("utf-8")
    assert _Outline(stage1).sections == ["here", "shares", "streams"]


def test_a_set_of_nothing_but_rejects_still_makes_a_page(tmp_path: Path):
    unit_set(tmp_path / "units", [], rejects=[Reject("a", "tokenize", "mono", "one channel")])
    page = write_report([tmp_path / "units"], tmp_path / "report.html").read_text("utf-8")
    assert _Outline(page).sections == ["here", "rejects"]


def test_a_run_without_steps_is_listed(tmp_path: Path):
    training_run(tmp_path / "run", 1, "0" * 64, steps=0)
    page = write_report([tmp_path / "run"], tmp_path / "report.html").read_text("utf-8")
    assert "svg" not in _Outline(page).tags
    assert "run, stage 1" in page


def test_a_damaged_sample_is_named(tmp_path: Path):
    unit_set(tmp_path / "units", [dialogue(0)], audio=False)
    path = tmp_path / "units" / "units-00000.tar"
    path.write_bytes(path.read_bytes().replace(b'"licence"', b'"License"'))
    with pytest.raises(UserError, match="damaged") as refusal:
        write_report([tmp_path / "units"], tmp_path / "report.html")
    assert refusal.value.where == str(path)


def test_a_unit_that_the_tokenizer_does_not_have_is_named_as_damage(tokenizer, tmp_path: Path):
    sample = dialogue(0)
    sample.units[1, 20] = UNITS
    unit_set(tmp_path / "units", [sample], tokenizer=dict(load_tokenizer(tokenizer).identity), audio=False)
    with pytest.raises(UserError, match=f"damaged.*unit {UNITS} of {UNITS} units") as refusal:
        write_report([tmp_path / "units"], tmp_path / "report.html", tokenizer)
    assert refusal.value.where == str(tmp_path / "units" / "units-00000.tar")


def test_a_chunk_that_does_not_fit_the_clock_of_another_set_is_no_damage(tmp_path: Path):
    unit_set(tmp_path / "units", [dialogue(0)], audio=False)
    unit_set(tmp_path / "faster", [dialogue(0)], tokenizer={**IDENTITY, "rate": 50}, audio=False)
    card = sequence_set(tmp_path / "s2", 2, [dialogue(0)], tmp_path / "faster")
    write_card(tmp_path / "s2", replace(card, config={**card.config, "chunk_ms": 100}))
    sets = [tmp_path / name for name in ("faster", "s2", "units")]
    write_report(sets[:2], tmp_path / "report.html")
    with pytest.raises(UserError, match="100 ms is not a whole number of frames at 25 Hz") as refusal:
        write_report(sets, tmp_path / "report.html")
    assert refusal.value.where == str(tmp_path / "units") and "damaged" not in refusal.value.what


def test_a_directory_in_the_place_of_the_page_is_refused(road, tmp_path: Path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(UserError, match="directory"):
        write_report(road[-1:], tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_file_in_the_place_of_the_pages_directory_is_refused(road, tmp_path: Path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="a file stands where"):
        write_report(road[-1:], tmp_path / "out" / "report.html")
    assert (tmp_path / "out").read_text() == "mine"
