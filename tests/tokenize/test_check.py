import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from duologue.errors import UserError
from duologue.formats.audio import probe, read_channels
from duologue.formats.fingerprint import sha256_file
from duologue.tokenize import golden_cases, parity
from duologue.tokenize.architecture import Architecture
from duologue.tokenize.check import check_tokenizer, report_lines
from duologue.tokenize.encoder import HubertTokenizer
from duologue.tokenize.golden import read_golden, without_repeats
from duologue.tokenize.golden_cases import SAMPLE, SAMPLE_UNITS, cases_of, compared
from duologue.tokenize.importing import import_tokenizer
from duologue.tokenize.parity import clock, pieces
from duologue.tokenize.tokenizer import load_tokenizer, read_about
from tests.tokenize import tiny
from tests.tokenize.making import hubert, save_hugging_face
from tests.tokenize.signals import sound

HZ = 16_000
LAYER = 2
BASE_50 = tiny.architecture(50)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A directory with a model, centroids of its layer 2, and the tokenizers `tok`, `bf16` and `layer1` of them."""
    place = tmp_path_factory.mktemp("made")
    model = str(save_hugging_face(hubert(), place / "hubert-base-ls960"))
    np.save(place / "none.npy", np.zeros((2, 48), np.float32))
    import_tokenizer(model, str(place / "none.npy"), place / "features", layer=LAYER)
    found = features(place / "features", sound(20 * HZ, seed=9))
    centroids = np.random.default_rng(0).choice(found, 500, replace=False)
    np.save(place / "hubert_base_ls960_L2_km500.npy", centroids)
    for name, layer, precision in (("tok", 2, "float32"), ("bf16", 2, "bfloat16"), ("layer1", 1, "float32")):
        quantizer = str(place / "hubert_base_ls960_L2_km500.npy")
        import_tokenizer(model, quantizer, place / name, layer=layer, precision=precision)
    return place


def features(directory: Path, channel: np.ndarray) -> np.ndarray:
    tokenizer = load_tokenizer(directory)
    assert isinstance(tokenizer, HubertTokenizer)
    (found,) = tokenizer.features([[channel[None]]])
    assert isinstance(found, np.ndarray)
    return found[0]


def units_of(directory: Path, path: Path) -> np.ndarray:
    audio = read_channels([(path, channel) for channel in range(probe(path).channels)], HZ)
    (found,) = load_tokenizer(directory).encode([[audio]])
    assert isinstance(found, np.ndarray)
    return found


def written(path: Path, rows) -> Path:
    path.write_text("".join(" ".join(map(str, row)) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def call(made) -> Path:
    """A call of 24 s at 8 kHz with two channels."""
    audio = np.stack([sound(24 * HZ, seed=1), sound(24 * HZ, seed=2)])[:, ::2]
    soundfile.write(made / "call.wav", audio.T, 8000)
    return made / "call.wav"


@pytest.fixture(scope="module")
def short(made) -> Path:
    """An utterance of 3.01 s."""
    soundfile.write(made / "short.flac", sound(48_200, seed=3), HZ)
    return made / "short.flac"


@pytest.fixture(scope="module")
def golden(made, call, short) -> Path:
    """The tokenizer's own units of the call and the utterance: three lines."""
    return written(made / "own.km", [*units_of(made / "tok", call), *units_of(made / "tok", short)])


@pytest.fixture(scope="module")
def report(made, call, short, golden) -> dict:
    with pytest.MonkeyPatch.context() as patch:
        # The models here are small enough for CPUs that imitate it.
        patch.setattr(parity, "has_bfloat16", lambda _: True)
        return check_tokenizer(made / "tok", [call, short], [golden])


def test_shipped_sample_is_intact():
    assert sha256_file(SAMPLE) == "0dd89e2bf8c60e05264bf2539f0ec35bc65efb55cd952b3510fa243de9cc16ff"
    assert sha256_file(SAMPLE_UNITS) == "400552c1713a71f31b9a8a1e2e69e916b2653fe9ace9c4148e60f89a50e28ace"
    (golden,) = read_golden([SAMPLE_UNITS], 500)
    info = probe(SAMPLE)
    assert (len(golden), info.samples, info.sample_rate, info.channels) == (596, 190_800, HZ, 1)
    assert BASE_50.frames_of(info.samples) == 596
    licence = (SAMPLE.parent / "LICENSE").read_text()
    assert "Facebook" in licence
    assert "Creative Commons Attribution 4.0" in licence
    assert "Licence: " in (SAMPLE.parent / "SOURCE").read_text()


def test_own_units_pass_whole_and_the_report_is_json(report):
    assert json.loads(json.dumps(report)) == report
    assert report["passed"]
    assert [(row["audio"], row["channel"]) for row in report["golden"]] == [
        ("call.wav", 0),
        ("call.wav", 1),
        ("short.flac", 0),
    ]
    assert all(row["passed"] and row["share"] == 1 and row["frames"] > 100 for row in report["golden"])
    assert (report["kind"], report["layer"], report["rate"], report["vocabulary"]) == ("hubert", LAYER, 50, 500)


def test_parity_says_what_each_way_changes(report):
    rows = {row["what"]: row for row in report["parity"]}
    assert list(rows) == ["batches of 4 v alone", "windows v whole", "bfloat16 v float32"]
    frames = 2 * 24 * 50 + 151
    assert (rows["batches of 4 v alone"]["frames"], rows["batches of 4 v alone"]["changed"]) == (frames, 0)
    # The utterance fits a window, where there is nothing to compare.
    assert rows["windows v whole"]["frames"] == 2 * 24 * 50
    assert 0 < rows["bfloat16 v float32"]["share"] < 0.5
    assert all(row["drift_frames"] == 0 for row in rows.values())


def test_usage_counts_all_units_of_the_audio(report, made, call, short):
    rows = [*units_of(made / "tok", call), *units_of(made / "tok", short)]
    use = report["usage"]
    assert use["frames"] == sum(map(len, rows))
    assert use["units_used"] == len(np.unique(np.concatenate(rows)))
    assert use["share_used"] == use["units_used"] / 500
    assert use["run_frames"] == pytest.approx(use["frames"] / sum(len(without_repeats(row)) for row in rows))
    assert 1 < use["perplexity"] <= use["units_used"]
    assert 0 < report["residual"] < 1


def test_residual_is_what_centroids_leave_of_the_spread_of_the_features(made, short):
    found = features(made / "tok", read_channels([(short, 0)], HZ)[0]).astype(np.float64)
    centroids = np.load(made / "hubert_base_ls960_L2_km500.npy").astype(np.float64)
    left = ((found[:, None] - centroids) ** 2).sum(axis=2).min(axis=1).mean()
    spread = ((found - found.mean(axis=0)) ** 2).sum(axis=1).mean()
    assert check_tokenizer(made / "tok", [short], seconds=4)["residual"] == pytest.approx(left / spread, abs=1e-4)


def test_people_read_the_same(report):
    text = "\n".join(report_lines(report))
    assert "hubert, layer 2, 50 Hz, 500 units, float32, on cpu" in text
    assert "short.flac, channel 0: 151 of 151 frames equal (100.00%)" in text
    assert text.splitlines()[-1] == "passed"
    assert "an hour" in text
    # The utterance's 151 units, of which its one piece has 150; an hour loses a frame in each of its 36.
    assert re.search(r"short\.flac \(3\.0 s\) +151 +150 +1\n", text)
    assert re.search(r"an hour +180,000 +179,964 +36\n", text)


def test_golden_units_of_one_reader_pass_without_the_last_frame(made, short):
    own = units_of(made / "tok", short)[0]
    reached = Architecture.from_dict(read_about(made / "tok")["identity"]["architecture"]).frames_of(48_200)
    assert reached < len(own)
    assert check_tokenizer(made / "tok", [short], [written(made / "reader.km", [own[:reached]])], seconds=1)["passed"]


def test_damaged_golden_units_do_not_pass(made, short, golden):
    own = read_golden([golden], 500)[2]
    own[[30, 31, 77]] = (own[[30, 31, 77]] + 250) % 500
    np.save(made / "damaged.npy", own)
    report = check_tokenizer(made / "tok", [short], [made / "damaged.npy"], seconds=1)
    (row,) = report["golden"]
    assert not report["passed"]
    assert (row["equal"], row["frames"], row["first_difference"], row["near_ties"]) == (148, 151, 30, 0)
    assert "the first difference at 30" in "\n".join(report_lines(report))
    assert report_lines(report)[-1] == "not passed"


def test_frames_between_two_units_may_be_either(made, short, tmp_path):
    # A unit more, a hair's breadth from the one that frame 40 has: either is right.
    own = units_of(made / "tok", short)[0]
    centroids = np.load(made / "hubert_base_ls960_L2_km500.npy")
    twin = centroids[own[40]] * (1 + 1e-6)
    np.save(tmp_path / "km.npy", np.concatenate([centroids, twin[None]]))
    import_tokenizer(str(made / "hubert-base-ls960"), str(tmp_path / "km.npy"), tmp_path / "tok", layer=LAYER)
    mine = units_of(tmp_path / "tok", short)[0]
    golden = np.where(mine == own[40], 500, np.where(mine == 500, own[40], mine))
    report = check_tokenizer(tmp_path / "tok", [short], [written(tmp_path / "twin.km", [golden])], seconds=1)
    (row,) = report["golden"]
    assert report["passed"]
    assert row["near_ties"] == row["frames"] - row["equal"] > 0
    assert "last bits" in row["verdict"]


def test_deduplicated_golden_units_pass(made, short, golden):
    path = written(made / "short.txt", [without_repeats(read_golden([golden], 500)[2])])
    report = check_tokenizer(made / "tok", [short], [path], seconds=1)
    assert report["passed"]
    assert report["golden"][0]["deduplicated"]


def test_wrong_layer_is_seen(made, short, golden):
    own = written(made / "short.km", [read_golden([golden], 500)[2]])
    report = check_tokenizer(made / "layer1", [short], [own], seconds=1)
    assert not report["passed"]
    assert report["golden"][0]["share"] < 0.9
    assert any("name says layer 2, and the tokenizer takes layer 1" in text for text in report["warnings"])


def test_centroids_of_other_features_are_seen(made, short, tmp_path):
    np.save(tmp_path / "km.npy", np.random.default_rng(0).normal(0, 5, (500, 48)).astype(np.float32))
    import_tokenizer(str(made / "hubert-base-ls960"), str(tmp_path / "km.npy"), tmp_path / "tok", layer=LAYER)
    report = check_tokenizer(tmp_path / "tok", [short], seconds=3)
    assert report["residual"] > 1
    assert any("another layer, model or normalisation" in text for text in report["warnings"])
    # Only golden units decide.
    assert report["passed"]


def test_half_precision_is_compared_with_golden_units_in_full(made, short, golden):
    own = written(made / "short.km", [read_golden([golden], 500)[2]])
    report = check_tokenizer(made / "bf16", [short], [own], seconds=3)
    assert report["passed"]
    assert report["precision"] == "bfloat16"
    assert next(row for row in report["parity"] if row["what"] == "bfloat16 v float32")["changed"] > 0


def test_linear_quantizer_gets_all_but_distances(made, short, tmp_path):
    torch.manual_seed(0)
    layers = [torch.nn.Linear(48, 30), torch.nn.LeakyReLU(), torch.nn.Linear(30, 30), torch.nn.LeakyReLU()]
    network = torch.nn.Sequential(*layers, torch.nn.Linear(30, 21))
    settings = {"vocab_size": 20, "dim": 48, "upstream_dim": 48}
    torch.save({"model_cfg": settings, "model_weight": network.state_dict()}, tmp_path / "L2.pt")
    import_tokenizer(str(made / "hubert-base-ls960"), str(tmp_path / "L2.pt"), tmp_path / "tok", layer=LAYER)
    own = units_of(tmp_path / "tok", short)[0]
    own[7] = (own[7] + 1) % 20
    report = check_tokenizer(tmp_path / "tok", [short], [written(tmp_path / "linear.km", [own])], seconds=3)
    (row,) = report["golden"]
    assert (row["equal"], row["first_difference"], row["near_ties"]) == (150, 7, 0)
    assert (report["residual"], report["passed"], report["warnings"]) == (None, False, [])


def test_long_audio_is_compared_as_readers_cut_it(made, tmp_path):
    # Two pieces, 100 s and 3 s, each by itself in one window: another normalisation, and a frame lost in each.
    channel = sound(103 * HZ, seed=4)
    channel[100 * HZ :] *= 0.02
    soundfile.write(tmp_path / "long.wav", channel, HZ, "FLOAT")
    about = read_about(made / "tok")
    shape = Architecture.from_dict(about["identity"]["architecture"])
    whole = HubertTokenizer.load(made / "tok", about, window_s=100)
    golden = np.concatenate(
        [
            next(iter(whole.encode([[part[None]]])))[0][: shape.frames_of(len(part))]
            for part in (channel[: 100 * HZ], channel[100 * HZ :])
        ]
    )
    path = written(tmp_path / "long.km", [golden])
    tokenizer = load_tokenizer(made / "tok")
    cases = cases_of([tmp_path / "long.wav"], [path], about, 500)
    (row,) = compared(cases, tokenizer, made / "tok", about, lambda: None)
    assert (row["passed"], row["computed"]) == (True, "in pieces of 100 s")
    # In windows, the units are those of the call on the clock: one more than pieces give in all, and one at the end.
    (own,) = tokenizer.encode([[channel[None]]])
    assert (own.shape[1], len(golden)) == (5150, 5148)


@given(st.integers(1, 60_000_000), st.sampled_from([25, 50]))
def test_clock_counts_what_pieces_lose(samples, rate):
    shape = tiny.architecture(rate)
    found = clock(samples, shape)
    lengths = [min(1_600_000, samples - first) for first in range(0, samples, 1_600_000)]
    assert found["units"] == -(-samples // shape.hop)
    assert found["in_pieces"] == sum(map(shape.frames_of, lengths))
    assert found["lost"] == found["units"] - found["in_pieces"] > 0


def test_pieces_are_the_whole():
    audio = np.arange(2 * 3_300_000).reshape(2, -1)
    parts = pieces(audio)
    assert [part.shape[1] for part in parts] == [1_600_000, 1_600_000, 100_000]
    assert np.array_equal(np.concatenate(parts, axis=1), audio)


def test_ten_minutes_lose_six_frames_in_pieces():
    assert clock(600 * HZ, tiny.architecture(25)) == {"units": 15_000, "in_pieces": 14_994, "lost": 6}


def test_only_the_beginning_is_computed_in_many_ways(made, call):
    report = check_tokenizer(made / "tok", [call], seconds=2)
    assert report["usage"]["frames"] == 2 * 100
    assert report["clock"]["files"][0]["units"] == 24 * 50
    assert "windows v whole" not in [row["what"] for row in report["parity"]]


def test_half_precision_is_left_out_where_it_is_imitated(made, short, monkeypatch):
    monkeypatch.setattr(parity, "has_bfloat16", lambda device: device != "cpu")
    report = check_tokenizer(made / "tok", [short], seconds=1)
    assert [row["what"] for row in report["parity"]] == ["batches of 4 v alone"]
    assert report["not_computed"] == ["bfloat16 v float32"]
    assert "not computed: this CPU only imitates bfloat16" in "\n".join(report_lines(report))


@pytest.mark.parametrize(
    ("precision", "device", "names", "left_out"),
    [
        ("float32", "cpu", ["batches of 4 v alone"], ["bfloat16 v float32"]),
        ("bfloat16", "cpu", ["batches of 4 v alone", "bfloat16 v float32"], []),
        ("float32", "cuda:1", ["batches of 4 v alone", "bfloat16 v float32", "cuda v cpu"], []),
        ("bfloat16", "cuda:0", ["batches of 4 v alone", "bfloat16 v float32"], ["cuda v cpu"]),
    ],
)
def test_ways_depend_on_the_device(monkeypatch, precision, device, names, left_out):
    monkeypatch.setattr(parity, "has_bfloat16", lambda device: device != "cpu")
    found, slow = parity.variants(precision, device, [np.zeros((1, 20 * HZ), np.float32)])
    assert ([way.name for way in found], slow) == (names, left_out)


def test_embedded_tokenizer_gets_what_applies():
    report = check_tokenizer(Path("embedded"), seconds=5)
    assert (report["passed"], report["golden"], report["parity"], report["residual"]) == (True, [], [], None)
    assert [row["audio"] for row in report["clock"]["files"]] == ["auto_repairs.flac", SAMPLE.name]
    assert report["clock"]["hour"] == {"units": 90_000}
    assert report["usage"]["frames"] == 3 * 125
    assert "none: give --audio and --units" in "\n".join(report_lines(report))


def test_embedded_tokenizer_is_compared_with_golden_units_too(short, tmp_path):
    found = units_of(Path("embedded"), short)
    assert check_tokenizer(Path("embedded"), [short], [written(tmp_path / "own.km", found)])["passed"]
    longer = [[*row, 3, 4] for row in found.tolist()]
    for golden, said in ((found[:, :-1], "1 more than golden"), (longer, "2 fewer than golden")):
        report = check_tokenizer(Path("embedded"), [short], [written(tmp_path / "other.km", golden)])
        assert not report["passed"]
        assert f", {said}: " in "\n".join(report_lines(report))


def about_of(layer: int, checkpoint: str, quantizer: str, **changes) -> dict:
    shape = {"dim": 768, "heads": 12, "feed": 3072, "conv_norm": "group", "norm_first": False}
    identity = {"rate": 50, "vocabulary": 500, "layer": layer, "quantizer": {"kind": "kmeans"}, "architecture": shape}
    return {"identity": {**identity, **changes}, "origin": {"checkpoint": checkpoint, "quantizer": quantizer}}


@pytest.mark.parametrize(
    ("about", "required"),
    [
        (about_of(9, "hubert_base_ls960.pt", "hubert_base_ls960_L9_km500.bin"), [True]),
        (about_of(9, "facebook/hubert-base-ls960", "hubert_base_ls960_L9_km500.bin"), [True]),
        (about_of(9, "hubert_fairseq_base_ls960.pth", "km500-layer9.npy"), [True]),
        # The commonest mistake: the names say layer 9, and another was given.
        (about_of(6, "hubert_base_ls960.pt", "hubert_base_ls960_L9_km500.bin"), [True]),
        (about_of(9, "checkpoint_best.pt", "km.bin"), [False]),
        (about_of(9, "hubert_base_ls960.pt", "km500/km.bin"), [False]),
        (about_of(6, "hubert_base_ls960.pt", "km.bin"), []),
        (about_of(9, "hubert_base_ls960.pt", "hubert_base_ls960_L9_km500.bin", vocabulary=200), []),
        (about_of(9, "a.pt", "L9_km500.bin", rate=25), []),
        (about_of(9, "a.pt", "L9_km500.bin", architecture={"dim": 1024}), []),
    ],
)
def test_shipped_sample_is_run_where_it_belongs(about, required):
    assert [case.required for case in cases_of([], [], about, 500)] == required


@pytest.mark.parametrize("named", [True, False])
def test_other_units_of_the_shipped_sample_fail_where_the_names_say_so(made, short, tmp_path, monkeypatch, named):
    monkeypatch.setattr(golden_cases, "_BASE", {})
    quantizer = tmp_path / ("hubert_base_ls960_L9_km500.npy" if named else "km.npy")
    quantizer.write_bytes((made / "hubert_base_ls960_L2_km500.npy").read_bytes())
    import_tokenizer(str(made / "hubert-base-ls960"), str(quantizer), tmp_path / "tok", layer=LAYER)
    about = json.loads((tmp_path / "tok" / "tokenizer.json").read_text())
    about["identity"]["layer"] = 9
    (tmp_path / "tok" / "tokenizer.json").write_text(json.dumps(about))
    report = check_tokenizer(tmp_path / "tok", [short], seconds=1)
    (row,) = report["golden"]
    assert (row["passed"], row["required"], row["frames"]) == (False, named, 596)
    assert report["passed"] is not named
    said = "another layer, or a damaged import" if named else "the check does not fail for it"
    assert any(said in text for text in report["warnings"])
    assert "fairseq's own of hubert_base_ls960, layer 9, km500" in "\n".join(report_lines(report))


def test_the_weights_themselves_pass_the_shipped_sample(made, short, tmp_path, monkeypatch):
    monkeypatch.setattr(golden_cases, "_BASE", {})
    monkeypatch.setattr(golden_cases, "layer_named", lambda _: 9)
    reached = units_of(made / "tok", SAMPLE)[:, :596]
    monkeypatch.setattr(golden_cases, "SAMPLE_UNITS", written(tmp_path / "sample.km", reached))
    report = check_tokenizer(made / "tok", [short], seconds=1)
    (row,) = report["golden"]
    assert (row["passed"], row["required"], row["equal"], report["passed"]) == (True, True, 596, True)


def test_what_cannot_be_checked_ends_in_one_message(made, short, golden, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    tok = made / "tok"
    for arguments, options, said in [
        (([short], [golden]), {}, "golden units of 3 utterances, and 1 channels"),
        (([], [golden]), {}, "golden units come with the audio"),
        (([tmp_path / "bad.wav"],), {}, "cannot be decoded"),
        (([tmp_path / "bad.wav"], [golden]), {}, "cannot be decoded"),
        (([tmp_path / "none.wav"],), {}, "there is no file none.wav"),
        (([short],), {"seconds": 0}, "--seconds is 1 to 100"),
        (([short],), {"seconds": 101}, "--seconds is 1 to 100"),
    ]:
        with pytest.raises(UserError, match=said) as caught:
            check_tokenizer(tok, *arguments, **options)
        assert caught.value.hint
    with pytest.raises(UserError, match="there is no tokenizer"):
        check_tokenizer(tmp_path)
