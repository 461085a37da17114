import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from services.trainer.cross_entropy import mean_cross_entropy


def test_equal_logits_cost_the_logarithm_of_the_vocabulary():
    loss = mean_cross_entropy(torch.zeros(3, 8), torch.tensor([0, 3, 7]))
    assert loss.item() == pytest.approx(math.log(8))


@pytest.mark.parametrize("rows", [1, 255, 256, 257, 700])
def test_value_and_gradient_are_those_of_torch(rows):
    torch.manual_seed(rows)
    logits = (torch.randn(rows, 50) * 5).requires_grad_()
    targets = torch.randint(0, 50, (rows,))
    ours, theirs = mean_cross_entropy(logits, targets), F.cross_entropy(logits, targets)
    (gradient,) = torch.autograd.grad(ours * 3, logits)
    (expected,) = torch.autograd.grad(theirs * 3, logits)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradient, expected, atol=1e-7, rtol=1e-5)


def test_logits_are_left_as_they_were():
    logits = torch.randn(5, 7, requires_grad=True)
    before = logits.detach().clone()
    mean_cross_entropy(logits, torch.zeros(5, dtype=torch.long)).backward()
    assert torch.equal(logits, before)


def test_far_logits_stay_finite():
    loss = mean_cross_entropy(torch.tensor([[1e4, -1e4]]), torch.tensor([1]))
    assert loss.item() == pytest.approx(2e4)
