import random
import time
from threading import Lock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from duologue.errors import UserError
from duologue.synth.vits_batches import Batches

CPU, GPU = torch.device("cpu"), torch.device("cuda")


class Computed:
    """Doubles numbers, noting the batches; more than `limit` are too many for its memory."""

    def __init__(self, limit=1_000, error=None):
        self.limit = limit
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.batches = []

    def __call__(self, items, padded):
        if len(items) > self.limit:
            raise self.error
        self.batches.append((list(items), padded))
        return [2 * item for item in items]


@given(st.lists(st.integers(1, 3_000), max_size=60), st.integers(1, 40), st.sampled_from([CPU, GPU]))
def test_every_item_has_its_own_result_and_batches_are_bounded(items, batch, device):
    compute = Computed()
    assert Batches(batch, device).run(items, lambda item: item, compute) == [2 * item for item in items]
    for chosen, padded in compute.batches:
        assert len(chosen) == 1 or len(chosen) * padded <= batch * 512
        assert len(chosen) <= batch
        if len(chosen) == 1 and device == CPU:
            assert padded == chosen[0]
        else:
            assert max(chosen) <= padded <= max(max(chosen) * 9 / 8, max(chosen) + 15)
    computed = sum(len(chosen) for chosen, _ in compute.batches)
    assert computed == len(items) if device == CPU else len(items) <= computed


def test_a_gpu_meets_few_shapes_and_computes_little_in_vain():
    draw, shapes, computed, wanted = random.Random(0), set(), 0, 0
    for _ in range(50):
        compute, items = Computed(), [draw.randint(20, 900) for _ in range(draw.randint(200, 400))]
        Batches(32, GPU).run(items, lambda item: item, compute)
        shapes |= {(len(chosen), padded) for chosen, padded in compute.batches}
        computed += sum(len(chosen) * padded for chosen, padded in compute.batches)
        wanted += sum(items)
    assert len(shapes) < 60
    assert computed < 1.25 * wanted


def test_items_of_like_length_go_together():
    compute = Computed()
    Batches(2, CPU).run([5, 500, 6, 490], lambda item: item, compute)
    assert [chosen for chosen, _ in compute.batches] == [[500, 490], [6, 5]]


@pytest.mark.parametrize(
    "error",
    [
        None,
        RuntimeError("GET was unable to find an engine to execute this computation"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_where_memory_runs_out_batches_are_halved_from_then_on(capsys, error):
    compute, batches = Computed(limit=5, error=error), Batches(16, GPU)
    items = list(range(1, 41))
    assert batches.run(items, lambda item: item, compute) == [2 * item for item in items]
    assert max(len(chosen) for chosen, _ in compute.batches) == 4
    assert capsys.readouterr().err.count("going on with") == 2
    batches.run(items, lambda item: item, compute)
    assert "going on" not in capsys.readouterr().err


def test_where_memory_does_not_hold_several_batches_it_holds_one_after_the_other(capsys):
    under_way, most, lock = 0, [], Lock()

    def compute(items, padded):
        nonlocal under_way
        with lock:
            under_way += 1
            most.append(under_way)
        try:
            time.sleep(0.01)
            if under_way > 1:
                raise torch.OutOfMemoryError("out of memory")
            return items
        finally:
            with lock:
                under_way -= 1

    batches = Batches(1, GPU)
    assert batches.run([1, 2, 3, 4], lambda item: item, compute) == [1, 2, 3, 4]
    assert max(most) > 1
    most.clear()
    assert batches.run([5, 6, 7], lambda item: item, compute) == [5, 6, 7]
    assert max(most) == 1 and capsys.readouterr().err == ""


def test_what_else_goes_wrong_is_not_taken_for_a_lack_of_memory():
    with pytest.raises(RuntimeError, match="misaligned address"):
        Batches(4, GPU).run([1, 2], lambda item: item, Computed(0, RuntimeError("CUDA error: misaligned address")))


def test_memory_that_does_not_hold_one_is_said():
    with pytest.raises(UserError, match="does not hold one sentence"):
        Batches(4, GPU).run([1, 2], lambda item: item, Computed(limit=0))


def test_on_a_cpu_a_batch_has_one_thread_and_torch_has_its_threads_again_afterwards():
    before, seen = torch.get_num_threads(), []

    def compute(items, padded):
        seen.append(torch.get_num_threads())
        return items

    torch.set_num_threads(3)
    try:
        assert Batches(1, CPU).run([3, 1, 2], lambda item: item, compute) == [3, 1, 2]
        assert torch.get_num_threads() == 3
        with pytest.raises(ZeroDivisionError):
            Batches(1, CPU).run([3], lambda item: item, lambda items, padded: [1 // 0])
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 1, 1]
