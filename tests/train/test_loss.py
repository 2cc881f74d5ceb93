import pytest
import torch
from torch.nn import functional

from duologue.train import loss
from duologue.train.loss import target_losses


def _case(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    hidden = torch.randn(50, 16, dtype=dtype, requires_grad=True)
    head = torch.randn(300, 16, dtype=dtype, requires_grad=True)
    targets = torch.randint(0, 300, (50,))
    targets[::7] = -100
    # Classes at both ends, of which the first is next to those that are none.
    targets[1], targets[2] = 0, 299
    return hidden, head, targets


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    # The last piece is a short one.
    monkeypatch.setattr(loss, "PIECE", 16)


def test_losses_and_gradients_are_those_of_plain_cross_entropy() -> None:
    hidden, head, targets = _case(torch.float32)
    ours = target_losses(hidden, head, targets)
    exact = [part.detach().double().requires_grad_() for part in (hidden, head)]
    theirs = functional.cross_entropy(exact[0] @ exact[1].T, targets, ignore_index=-100, reduction="none")
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-6, atol=1e-6)
    assert ours.dtype == torch.float32 and torch.equal(ours == 0, targets < 0)

    found = torch.autograd.grad(ours.sum() / 43, (hidden, head))
    expected = torch.autograd.grad(theirs.sum() / 43, exact)
    for one, other in zip(found, expected, strict=True):
        assert (one.double() - other).norm() / other.norm() < 1e-6


def test_tokens_whose_logits_are_of_any_size_get_losses_side_by_side() -> None:
    hidden, head, targets = _case(torch.float32)
    targets = targets.where(targets >= 0, -1)
    # Up to about a thousand: e^logit is neither finite for the largest nor, beside them, more than 0 for the others.
    hidden = (hidden.detach() * torch.logspace(2, -2, 50)[:, None]).requires_grad_()
    ours = target_losses(hidden, head, targets)
    exact = [part.detach().double().requires_grad_() for part in (hidden, head)]
    theirs = functional.cross_entropy(exact[0] @ exact[1].T, targets, ignore_index=-1, reduction="none")
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5)
    found, expected = torch.autograd.grad(ours.sum(), hidden)[0], torch.autograd.grad(theirs.sum(), exact[0])[0]
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-4)


def test_without_autograd_the_losses_are_the_same() -> None:
    hidden, head, targets = _case(torch.float32)
    with_it = target_losses(hidden, head, targets)
    with torch.no_grad():
        assert torch.equal(target_losses(hidden, head, targets), with_it)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_bfloat16_gives_losses_and_gradients_close_by(device: str) -> None:
    hidden, head, targets = _case(torch.float32)
    rough = [part.detach().to(device, torch.bfloat16).requires_grad_() for part in (hidden, head)]
    losses = target_losses(*rough, targets.to(device))
    torch.testing.assert_close(losses.cpu(), target_losses(hidden, head, targets), rtol=0.05, atol=0.1)
    ours = torch.autograd.grad(losses.sum(), rough)
    theirs = torch.autograd.grad(target_losses(hidden, head, targets).sum(), (hidden, head))
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == torch.bfloat16
        assert (one.float().cpu() - other).norm() / other.norm() < 0.05


def test_losses_may_not_be_weighted_one_by_one() -> None:
    hidden, head, targets = _case(torch.float32)
    losses = target_losses(hidden, head, targets)
    with pytest.raises(ValueError, match="only the sum"):
        (losses * torch.arange(50)).sum().backward()


def test_a_batch_without_targets_has_gradients_of_zero() -> None:
    hidden, head, targets = _case(torch.float32)
    losses = target_losses(hidden, head, torch.full_like(targets, -100))
    losses.sum().backward()
    assert not losses.any() and not hidden.grad.any() and not head.grad.any()
