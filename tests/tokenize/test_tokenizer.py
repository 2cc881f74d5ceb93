import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from duologue.errors import UserError
from duologue.tokenize.tokenizer import directory_of, load_tokenizer


@pytest.fixture
def directory(tmp_path):
    """A copy of the embedded tokenizer, to be damaged."""
    return shutil.copytree(directory_of("embedded"), tmp_path / "tokenizer")


def refusal(directory) -> str:
    with pytest.raises(UserError) as caught:
        load_tokenizer(directory)
    assert str(directory) in str(caught.value)
    assert caught.value.hint
    return caught.value.what


def test_directory_of_a_name_is_the_packages_own_or_the_path(tmp_path):
    assert (directory_of("embedded") / "tokenizer.json").is_file()
    assert directory_of(tmp_path) == tmp_path


def test_copy_is_the_same_tokenizer(directory):
    assert load_tokenizer(directory).identity == load_tokenizer("embedded").identity


def test_directory_without_a_tokenizer_is_refused(tmp_path):
    assert "no tokenizer.json" in refusal(tmp_path / "nowhere")
    assert "no tokenizer.json" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"{}", b"\xff\xfe", b"[" * 100_000])
def test_damaged_description_is_refused(directory, content):
    (directory / "tokenizer.json").write_bytes(content)
    assert "damaged" in refusal(directory)


def changed(directory, **changes) -> None:
    path = directory / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_tokenizer_of_another_kind_asks_for_a_newer_duologue(directory):
    changed(directory, kind="hubert-kmeans")
    assert "'hubert-kmeans'" in refusal(directory)


def test_kind_that_is_no_text_is_refused(directory):
    changed(directory, kind=[])
    assert "damaged" in refusal(directory)


@pytest.mark.parametrize("number", [2, None, "1"])
def test_tokenizer_of_another_format_asks_for_a_newer_duologue(directory, number):
    changed(directory, format=number)
    assert f"has format {number!r}" in refusal(directory)


NUMBERS = {"rate": 25, "sample_rate": 16_000, "vocabulary": 500}


@pytest.mark.parametrize("identity", [None, {}, [], {"quantizer_sha256": "00"}, {**NUMBERS, "rate": "25"}])
def test_description_without_an_identity_is_refused(directory, identity):
    changed(directory, identity=identity)
    assert "damaged" in refusal(directory)


def test_identity_that_names_no_quantizer_is_refused(directory):
    changed(directory, identity=NUMBERS)
    assert "quantizer cannot be read" in refusal(directory)


def test_quantizer_that_is_missing_or_damaged_is_refused(directory):
    path = directory / "quantizer.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert "cannot be read" in refusal(directory)
    path.unlink()
    assert "cannot be read" in refusal(directory)


def test_what_the_system_refuses_to_read_is_told_as_it_is(directory):
    path = directory / "quantizer.safetensors"
    path.unlink()
    path.symlink_to(path.name)
    assert "a link leads back to itself" in refusal(directory)


def test_quantizer_of_another_tokenizer_is_refused(directory):
    centroids = np.zeros((500, 39), np.float32)
    save_file({"centroids": centroids}, directory / "quantizer.safetensors")
    assert "not the one its tokenizer.json names" in refusal(directory)
    save_file({"weights": centroids}, directory / "quantizer.safetensors")
    assert "cannot be read" in refusal(directory)


def edited(directory, **changes) -> None:
    path = directory / "tokenizer.json"
    about = json.loads(path.read_text())
    path.write_text(json.dumps({**about, "identity": {**about["identity"], **changes}}))


@pytest.mark.parametrize(
    ("name", "value"), [("rate", 50), ("sample_rate", 8000), ("band_hz", [0.0, 8000.0]), ("window", "another")]
)
def test_tokenizer_that_was_made_for_another_way_of_computing_is_refused(directory, name, value):
    edited(directory, **{name: value})
    assert f"another {name}" in refusal(directory)
