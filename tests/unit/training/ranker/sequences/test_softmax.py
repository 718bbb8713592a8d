"""The one-pass cross entropy is what the plain formula says, with its gradients."""

import numpy as np
import pytest
import torch
from torch import Tensor

from training.ranker.log import Ints
from training.ranker.sequences import softmax
from training.ranker.sequences.softmax import log_sum


def plain(moments: Tensor, own: Tensor, table: Tensor, factor: float, right: Ints) -> Tensor:
    others = (moments @ table.T).exp()
    kept = torch.ones_like(others)
    for row, column in enumerate(right.tolist()):
        if column >= 0:
            kept[row, column] = 0
    return (own.exp() + factor * (others * kept).sum(dim=1)).log().mean()


def test_it_and_its_gradients_are_those_of_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softmax, "_TILE", 5)
    generator = torch.Generator().manual_seed(1)
    moments, own, table = (torch.randn(size, generator=generator) for size in ((12, 4), (12,), (7, 4)))
    right = np.array([1, -1, -1, -1, 2, 2, 6, -1, 3, -1, -1, 0])
    found = []
    for function in (log_sum, plain):
        inputs = tuple(one.clone().requires_grad_() for one in (moments, own, table))
        value = function(inputs[0], inputs[1], inputs[2], 1.5, right)
        found.append([value.detach(), *torch.autograd.grad(3 * value, inputs)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_large_logits_stay_numbers() -> None:
    moments, own, table = torch.full((1, 1), 300.0), torch.tensor([90.0]), torch.ones(2, 1)
    found = log_sum(moments, own, table, 1.0, np.array([0]))
    assert found.item() == pytest.approx(300.0)
