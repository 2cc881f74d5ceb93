import errno
import os
from functools import partial
from pathlib import Path

import pytest
import torch

from duologue.errors import UserError, explained


def test_message_says_what_where_and_what_to_do():
    error = UserError("the shard is damaged", where=Path("units/units-00003.tar"), hint="Make it again")
    assert str(error) == "the shard is damaged (units/units-00003.tar). Make it again"
    assert (error.what, error.where, error.hint) == ("the shard is damaged", "units/units-00003.tar", "Make it again")
    assert str(UserError("nothing to mix")) == "nothing to mix"
    assert str(UserError("nothing to mix", hint="Add units")) == "nothing to mix. Add units"


@pytest.mark.parametrize(
    ("number", "what"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EFBIG, "larger than this system allows"),
        (errno.EACCES, "permission denied"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "input/output"),
        (errno.ELOOP, "leads back to itself"),
        (errno.ENAMETOOLONG, "too long"),
    ],
)
def test_refusals_of_the_system_are_explained(number, what):
    with pytest.raises(UserError, match=what) as caught, explained("out/shard.tar", "reading"):
        raise OSError(number, os.strerror(number))
    assert "while reading (out/shard.tar)" in str(caught.value)
    assert caught.value.hint
    assert isinstance(caught.value.__cause__, OSError)


def test_hint_where_permission_is_missing_is_of_what_was_done():
    for doing, hint in (("reading", "Change its permissions"), ("writing", "Choose a directory you may write to")):
        with pytest.raises(UserError, match=hint), explained("x", doing):
            raise PermissionError(errno.EACCES, "Permission denied")


def test_file_that_the_system_names_is_the_one_that_is_told():
    with pytest.raises(UserError, match=r"writing \(deep/file\)"), explained("out"):
        raise OSError(errno.ENOSPC, "full", "deep/file")


def test_directory_where_a_file_is_needed_is_explained(tmp_path):
    with pytest.raises(UserError, match="a directory, not a file"), explained(tmp_path, "reading"):
        tmp_path.open("rb")


def test_links_that_lead_back_to_themselves_are_explained_however_python_says_it(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for look in (partial(Path.resolve, strict=True), Path.read_bytes):
        with pytest.raises(UserError, match="leads back to itself") as caught, explained("out", "reading"):
            look(tmp_path / "loop")
        assert caught.value.where == str(tmp_path / "loop")


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "Free its memory"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "Free its memory"),
        (RuntimeError("CUDA error: no kernel image is available for execution on the device\n"), "not made for"),
        (RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable\nSearch for"), "nvidia-smi"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate`"), "nvidia-smi"),
    ],
)
def test_refusals_of_a_gpu_are_explained(error, hint):
    with pytest.raises(UserError) as caught, explained("out"):
        raise error
    assert caught.value.what == f"the GPU refused ({str(error).splitlines()[0]})"
    assert caught.value.where is None and hint in caught.value.hint


@pytest.mark.parametrize("said", ["mine", "the workers are out of memory", "deserialize an object of a CUDA device"])
def test_other_errors_of_programs_pass(said):
    with pytest.raises(RuntimeError, match=said), explained("out"):
        raise RuntimeError(said)


def test_other_errors_pass():
    with pytest.raises(FileNotFoundError), explained("out"):
        raise FileNotFoundError(errno.ENOENT, "none")
    with pytest.raises(UserError, match="already told"), explained("out"):
        raise UserError("already told")
