import gzip
import io
import os
import pickle
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import MiniBatchKMeans

from duologue.errors import UserError
from duologue.tokenize import quantizer_files
from duologue.tokenize.quantizer_files import read_quantizer
from tests.pickles import Disguised, Malicious
from tests.tokenize.making import DIM, UNITS, kmeans

CENTROIDS = kmeans().cluster_centers_.astype(np.float32)


def refusal(path) -> str:
    with pytest.raises(UserError) as caught:
        read_quantizer(path)
    assert str(path) in str(caught.value)
    assert caught.value.hint
    return caught.value.what


def read_centroids(path) -> np.ndarray:
    quantizer = read_quantizer(path)
    assert (quantizer.name, quantizer.about, list(quantizer.tensors)) == (
        path.name,
        {"kind": "kmeans"},
        ["centroids"],
    )
    centroids = quantizer.tensors["centroids"]
    assert (quantizer.units, quantizer.width) == centroids.shape
    assert centroids.dtype == np.float32
    assert centroids.flags.c_contiguous
    return centroids


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)])
def test_centroids_of_a_joblib_file_are_read_however_compressed(tmp_path, compress):
    joblib.dump(kmeans(), tmp_path / "km.bin", compress=compress)
    assert np.array_equal(read_centroids(tmp_path / "km.bin"), CENTROIDS)


@pytest.mark.parametrize("protocol", range(2, 5))
def test_centroids_of_any_protocol_are_read(tmp_path, protocol):
    joblib.dump(kmeans(), tmp_path / "km.bin", protocol=protocol)
    (tmp_path / "km.pkl").write_bytes(pickle.dumps(kmeans(), protocol))
    for name in ("km.bin", "km.pkl"):
        assert np.array_equal(read_centroids(tmp_path / name), CENTROIDS)


def test_centroids_of_a_mini_batch_model_with_its_random_state_are_read(tmp_path):
    model = MiniBatchKMeans(UNITS, n_init=1, random_state=np.random.RandomState(0), max_iter=2)
    model.partial_fit(np.random.default_rng(0).standard_normal((100, DIM)))
    joblib.dump(model, tmp_path / "km.bin")
    assert np.array_equal(read_centroids(tmp_path / "km.bin"), model.cluster_centers_.astype(np.float32))


class Placeless:
    def __init__(self, file) -> None:
        self.write = file.write

    def tell(self) -> int:
        raise io.UnsupportedOperation


def test_models_of_old_scikit_learn_are_read_by_the_names_they_had_then(tmp_path):
    with (tmp_path / "km.bin").open("wb") as file:
        # A file that cannot tell its place gets its arrays without bytes of alignment before them, as all did then.
        joblib.dump(kmeans(), Placeless(file), protocol=2)
    content = (tmp_path / "km.bin").read_bytes()
    for now, then in (
        (b"csklearn.cluster._kmeans\n", b"csklearn.cluster.k_means_\n"),
        (b"cjoblib.numpy_pickle\n", b"csklearn.externals.joblib.numpy_pickle\n"),
    ):
        assert now in content
        content = content.replace(now, then)
    (tmp_path / "km.bin").write_bytes(content)
    assert np.array_equal(read_centroids(tmp_path / "km.bin"), CENTROIDS)


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("as_tensor", [True, False])
def test_centroids_of_a_torch_dict_are_read(tmp_path, new, as_tensor):
    centers = torch.from_numpy(CENTROIDS) if as_tensor else CENTROIDS.astype(np.float64)
    content = {"cluster_centers": centers, "n_clusters": UNITS}
    torch.save(content, tmp_path / "km.pt", _use_new_zipfile_serialization=new)
    assert np.array_equal(read_centroids(tmp_path / "km.pt"), CENTROIDS)


@pytest.mark.parametrize("centroids", [CENTROIDS, np.asfortranarray(CENTROIDS), CENTROIDS.astype(">f8")])
def test_centroids_of_an_npy_file_are_read(tmp_path, centroids):
    np.save(tmp_path / "km.npy", centroids)
    assert np.array_equal(read_centroids(tmp_path / "km.npy"), CENTROIDS)


def linear(vocab_size: int = 20, outputs: int = 21) -> dict:
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Linear(DIM, 40), torch.nn.LeakyReLU(), torch.nn.Linear(40, 30), torch.nn.LeakyReLU()
    ).append(torch.nn.Linear(30, outputs))
    settings = {"vocab_size": vocab_size, "dim": DIM, "upstream_dim": DIM}
    return {"model_cfg": settings, "model_weight": layers.state_dict()}


def test_linear_quantizer_is_read_with_its_blank(tmp_path):
    content = linear()
    torch.save(content, tmp_path / "L11_quantizer_20.pt")
    quantizer = read_quantizer(tmp_path / "L11_quantizer_20.pt")
    assert quantizer.about == {"kind": "linear", "blank": 20, "slope": 0.01}
    assert (quantizer.units, quantizer.width) == (21, DIM)
    assert len(quantizer.tensors) == 6
    for name, tensor in content["model_weight"].items():
        number, kind = name.split(".")
        assert np.array_equal(quantizer.tensors[f"linear.{int(number) // 2}.{kind}"], tensor.numpy())


def test_linear_quantizer_without_an_output_for_blanks_has_none(tmp_path):
    torch.save(linear(outputs=20), tmp_path / "q.pt")
    assert read_quantizer(tmp_path / "q.pt").about["blank"] is None


@pytest.mark.parametrize(("vocab_size", "outputs"), [(20, 22), (20, 19), (20.0, 21), ("20", 21)])
def test_linear_quantizer_whose_outputs_are_not_its_units_is_damaged(tmp_path, vocab_size, outputs):
    torch.save(linear(vocab_size, outputs), tmp_path / "q.pt")
    assert f"{outputs} outputs" in refusal(tmp_path / "q.pt")


@pytest.mark.parametrize("damage", ["0.weight", "2.bias", "4.weight", "model_cfg"])
def test_linear_quantizer_that_lacks_a_part_is_damaged(tmp_path, damage):
    content = linear()
    content.pop(damage, None)
    content["model_weight"].pop(damage, None)
    torch.save(content, tmp_path / "q.pt")
    assert "damaged" in refusal(tmp_path / "q.pt")


def test_linear_quantizer_of_other_layers_is_damaged(tmp_path):
    content = linear()
    content["model_weight"] |= {"6.weight": torch.zeros(3, 21), "6.bias": torch.zeros(3)}
    torch.save(content, tmp_path / "q.pt")
    assert "three layers" in refusal(tmp_path / "q.pt")
    content = linear()
    content["model_weight"]["2.weight"] = torch.zeros(30, 41)
    torch.save(content, tmp_path / "q.pt")
    assert "layer 1 of the linear quantizer" in refusal(tmp_path / "q.pt")


@pytest.mark.parametrize(
    "content",
    [np.zeros((2, 3, 4), np.float32), np.zeros(7, np.float32), np.zeros((5, 4), np.int64), np.zeros((5, 4), "S3")],
)
def test_array_that_is_no_list_of_centroids_is_refused(tmp_path, content):
    np.save(tmp_path / "km.npy", content)
    assert "no centroids" in refusal(tmp_path / "km.npy")


def test_npy_file_of_objects_is_refused_unread(tmp_path):
    objects = np.empty((2, 2), object)
    objects[:] = None
    objects[0, 0] = Malicious(tmp_path / "marker")
    np.save(tmp_path / "km.npy", objects, allow_pickle=True)
    assert "damaged" in refusal(tmp_path / "km.npy")
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("evil", [Malicious, Disguised])
@pytest.mark.parametrize("compress", [0, 3])
def test_code_in_a_joblib_file_is_refused_and_never_run(tmp_path, evil, compress):
    marker = tmp_path / "marker"
    model = kmeans()
    model.verbose = evil(marker)
    joblib.dump(model, tmp_path / "km.bin", compress=compress)
    assert "posix.system" in refusal(tmp_path / "km.bin")
    assert not marker.exists()


def test_code_in_a_torch_quantizer_is_refused_and_never_run(tmp_path):
    torch.save({"cluster_centers": CENTROIDS, "extra": Malicious(tmp_path / "marker")}, tmp_path / "km.pt")
    assert "posix.system" in refusal(tmp_path / "km.pt")
    assert not (tmp_path / "marker").exists()


def test_unfitted_model_and_other_objects_have_no_centroids(tmp_path):
    for number, value in enumerate([MiniBatchKMeans(3), [1, 2], {"cluster_centers_": CENTROIDS}, None]):
        joblib.dump(value, tmp_path / f"{number}.bin")
        assert "no centroids" in refusal(tmp_path / f"{number}.bin")


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_centroids_that_are_no_numbers_are_refused(tmp_path, number):
    centroids = CENTROIDS.copy()
    centroids[3, 4] = number
    np.save(tmp_path / "km.npy", centroids)
    assert "NaN" in refusal(tmp_path / "km.npy")


@pytest.mark.parametrize("units", [1, 2**15 + 1])
def test_vocabulary_that_units_cannot_hold_is_refused(tmp_path, units):
    np.save(tmp_path / "km.npy", np.zeros((units, 2), np.float32))
    assert f"{units} units" in refusal(tmp_path / "km.npy")


@pytest.mark.parametrize("units", [2, 2**15])
def test_smallest_and_largest_vocabulary_are_read(tmp_path, units):
    np.save(tmp_path / "km.npy", np.zeros((units, 2), np.float32))
    assert len(read_centroids(tmp_path / "km.npy")) == units


def test_checkpoint_given_as_quantizer_is_told(tmp_path):
    for number, content in enumerate([{"model": {"a": torch.zeros(2)}, "cfg": {}}, {"a.weight": torch.zeros(2)}]):
        torch.save(content, tmp_path / f"{number}.pt")
        assert "checkpoint" in refusal(tmp_path / f"{number}.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "Git LFS pointer"),
        (b"hello, world", "no quantizer that Duologue knows"),
        (b"\x80\x04", "damaged"),
        (b"\x93NUMPY\x01\x00", "damaged"),
        (b"PK\x03\x04", "damaged"),
        (gzip.compress(b"hello", mtime=0), "no quantizer that Duologue knows"),
        (gzip.compress(b"\x80\x04", mtime=0)[:-9], "damaged"),
    ],
)
def test_file_that_is_something_else_is_told(tmp_path, content, message):
    (tmp_path / "km.bin").write_bytes(content)
    assert message in refusal(tmp_path / "km.bin")


def test_pipe_or_device_is_told_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path(os.devnull)):
        assert "pipe or a device" in refusal(path)


def test_file_that_is_not_there_is_told(tmp_path):
    assert "no such file" in refusal(tmp_path / "km.bin")


def test_directory_is_told(tmp_path):
    assert "directory, not a file" in refusal(tmp_path)


def test_compressed_file_that_grows_without_bounds_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(quantizer_files, "_LARGEST", 1000)
    joblib.dump(kmeans(), tmp_path / "km.bin", compress=3)
    assert "damaged" in refusal(tmp_path / "km.bin")


FILES = ["array.npy", "linear.pt", "pickle.bin", "plain.bin", "zlib.bin"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    directory = tmp_path_factory.mktemp("files")
    joblib.dump(kmeans(8), directory / "plain.bin")
    joblib.dump(kmeans(8), directory / "zlib.bin", compress=3)
    (directory / "pickle.bin").write_bytes(pickle.dumps(kmeans(8), 2))
    np.save(directory / "array.npy", CENTROIDS)
    torch.save(linear(), directory / "linear.pt")
    assert sorted(path.name for path in directory.iterdir()) == FILES
    return directory


@settings(max_examples=100)
@given(data=st.data())
def test_truncated_file_is_a_users_error(files, tmp_path_factory, data):
    content = (files / data.draw(st.sampled_from(FILES))).read_bytes()
    path = tmp_path_factory.getbasetemp() / "truncated.bin"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(UserError):
        read_quantizer(path)


@settings(max_examples=300)
@given(data=st.data())
def test_flipped_bits_give_a_quantizer_or_a_users_error(files, tmp_path_factory, data):
    content = bytearray((files / data.draw(st.sampled_from(FILES))).read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) * 8 - 1), min_size=1, max_size=4)):
        content[place // 8] ^= 1 << place % 8
    path = tmp_path_factory.getbasetemp() / "damaged.bin"
    path.write_bytes(content)
    try:
        quantizer = read_quantizer(path)
    except UserError as error:
        assert error.where == str(path)
    else:
        assert 2 <= quantizer.units <= 10_000
