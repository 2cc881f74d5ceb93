import pickle
import zipfile
from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.errors import UserError
from duologue.formats.foreign import ForeignClass, foreign
from duologue.tokenize.torch_files import is_torch_file, lazy, read_torch, state_of
from duologue.tokenize.unpickle import mapping
from tests.pickles import Disguised, Evaluating, Malicious

FORMATS = pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])


def save(value, path, new: bool = True):
    torch.save(value, path, _use_new_zipfile_serialization=new)
    return path


def everything(path):
    """Read all that a file holds."""
    with foreign(path):
        content = read_torch(path)
        return {name: tensor.read() for name, tensor in (state_of(content) or {}).items()}


TENSORS = {
    "matrix": torch.arange(12.0).reshape(3, 4),
    "turned": torch.arange(12.0).reshape(3, 4).T,
    "part": torch.arange(12.0)[3:7],
    "number": torch.tensor(3.5),
    "none": torch.zeros(0, 4),
    "empty rows": torch.zeros(2, 0),
    "said": torch.tensor([True, False]),
    **{
        str(dtype): torch.arange(4).to(dtype)
        for dtype in (
            *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
            *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
        )
    },
    "parameter": torch.nn.Parameter(torch.arange(3.0)),
}


@FORMATS
@pytest.mark.parametrize("kind", [dict, OrderedDict])
def test_tensors_are_read_as_torch_reads_them(tmp_path, new, kind):
    path = save(kind(TENSORS), tmp_path / "saved.pt", new)
    assert is_torch_file(path.read_bytes()[:32])
    read = everything(path)
    assert list(read) == list(TENSORS)
    for name, tensor in torch.load(path, weights_only=True).items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor.detach())


@FORMATS
def test_tensors_that_share_a_storage_are_both_read(tmp_path, new):
    whole = torch.arange(10.0)
    read = everything(save({"whole": whole, "end": whole[6:]}, tmp_path / "shared.pt", new))
    assert torch.equal(read["whole"], whole)
    assert torch.equal(read["end"], whole[6:])


@FORMATS
def test_settings_beside_the_tensors_are_plain_data(tmp_path, new):
    content = mapping(read_torch(save({"cfg": {"a": [1, 2.5, "x", None, True]}, "t": TENSORS}, tmp_path / "x", new)))
    assert content["cfg"] == {"a": [1, 2.5, "x", None, True]}
    assert state_of(content["cfg"]) is None
    assert set(state_of(content["t"])) == set(TENSORS)


@FORMATS
@pytest.mark.parametrize("evil", [Malicious, Evaluating, Disguised])
def test_code_is_refused_and_never_run(tmp_path, new, evil):
    marker = tmp_path / "marker"
    path = save({"model": TENSORS, "extra_state": {"deep": [evil(marker)]}}, tmp_path / "evil.pt", new)
    with pytest.raises(ForeignClass):
        read_torch(path)
    assert not marker.exists()


@pytest.mark.parametrize("part", [0, 1, 2, 4])
def test_code_in_any_pickle_of_a_legacy_file_is_refused(tmp_path, part):
    # Magic number, protocol, system, content, keys of the storages: five pickles in a row.
    parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}, []]
    if part:
        parts[part] = Malicious(tmp_path / "marker")
        message = r"posix\.system"
    else:
        parts[part] = 17
        message = "not written by torch.save"
    path = tmp_path / "evil.pt"
    path.write_bytes(b"".join(pickle.dumps(value, 2) for value in parts))
    with pytest.raises((ForeignClass, ValueError), match=message):
        read_torch(path)
    assert not (tmp_path / "marker").exists()


def test_legacy_file_of_a_big_endian_machine_is_refused(tmp_path):
    parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": False}, {}, []]
    (tmp_path / "file.pt").write_bytes(b"".join(pickle.dumps(value, 2) for value in parts))
    with pytest.raises(ValueError, match="big-endian"):
        read_torch(tmp_path / "file.pt")


def rewritten(path, name, change, compression=zipfile.ZIP_STORED):
    """Change a record of a zip file, with a checksum that fits."""
    with zipfile.ZipFile(path) as archive:
        records = {record: archive.read(record) for record in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for record, content in records.items():
            archive.writestr(record, change(content) if record.endswith(name) else content)
    return path


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("data/0", lambda content: content[:-4], "has not the size"),
        ("data/0", lambda content: content * 1000, "has not the size"),
        # The tensor's shape (4,), and not that of its storage.
        ("data.pkl", lambda content: content.replace(b"K\x04\x85", b"K\x05\x85"), "beyond its storage"),
        # Its stride: ever the same number would be a great tensor out of a small file.
        ("data.pkl", lambda content: content.replace(b"K\x01\x85", b"K\x09\x85"), "beyond its storage"),
        ("data.pkl", lambda content: content.replace(b"K\x04\x85", b"J\xff\xff\xff\xff\x85"), "are no sizes"),
        ("byteorder", lambda _: b"big", "big-endian"),
    ],
)
def test_zip_file_whose_parts_do_not_fit_is_damaged(tmp_path, name, change, message):
    path = rewritten(save({"a": torch.arange(4.0)}, tmp_path / "file.pt"), name, change)
    with pytest.raises(UserError, match=message):
        everything(path)


def test_tensor_that_repeats_a_number_beyond_its_storage_is_refused(tmp_path):
    path = save({"a": torch.zeros(1).expand(10_000_000)}, tmp_path / "wide.pt")
    with pytest.raises(UserError, match="beyond its storage"):
        everything(path)


def test_compressed_zip_file_is_refused(tmp_path):
    path = save({"a": torch.zeros(10_000)}, tmp_path / "file.pt")
    rewritten(path, "none", None, zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match="not written by torch"):
        everything(path)


def test_other_zip_file_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(UserError, match="not written by torch"):
        everything(tmp_path / "other.zip")


def test_only_tensors_with_names_are_a_state(tmp_path):
    content = read_torch(save({0: torch.zeros(2), "weight": torch.zeros(2), "step": 3}, tmp_path / "file.pt"))
    assert list(state_of(content)) == ["weight"]


def test_only_a_rebuilt_tensor_is_one():
    assert lazy(3) is None
    assert lazy({"a": 1}) is None
    assert state_of([1]) is None


@pytest.fixture(scope="module", params=[True, False], ids=["zip", "legacy"])
def saved(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "file.pt"
    return save({"weight": torch.arange(40.0).reshape(5, 8), "bias": torch.arange(5.0)}, path, request.param)


@settings(max_examples=60)
@given(data=st.data())
def test_truncated_file_is_a_users_error(saved, data):
    content = saved.read_bytes()
    cut = saved.with_name("cut.pt")
    cut.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(UserError) as caught:
        everything(cut)
    assert str(cut) in str(caught.value)


@settings(max_examples=150)
@given(data=st.data())
def test_flipped_bits_give_tensors_or_a_users_error(saved, data):
    content = bytearray(saved.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) * 8 - 1), min_size=1, max_size=4)):
        content[place // 8] ^= 1 << place % 8
    damaged = saved.with_name("damaged.pt")
    damaged.write_bytes(content)
    try:
        read = everything(damaged)
    except UserError as error:
        assert error.where == str(damaged)
    else:
        assert sum(tensor.numel() for tensor in read.values()) <= 45
