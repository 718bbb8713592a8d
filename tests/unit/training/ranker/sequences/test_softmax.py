"""The one-pass cross entropy is what the plain formula says, with its gradients."""

import numpy as np
import pytest
import torch
from torch import Tensor

from training.ranker.sequences import softmax
from training.ranker.sequences.softmax import Left, log_sum


def plain(moments: Tensor, own: Tensor, table: Tensor, factor: float, left: Left) -> Tensor:
    others = (moments @ table.T).exp()
    kept = torch.ones_like(others)
    kept[torch.from_numpy(left.rows), torch.from_numpy(left.columns)] = 0
    return (own.exp() + factor * (others * kept).sum(dim=1)).log().mean()


def test_it_and_its_gradients_are_those_of_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softmax, "_TILE", 5)
    generator = torch.Generator().manual_seed(1)
    moments, own, table = (torch.randn(size, generator=generator) for size in ((12, 4), (12,), (7, 4)))
    left = Left(np.array([0, 0, 4, 5, 11]), np.array([1, 6, 2, 2, 0]))
    found = []
    for function in (log_sum, plain):
        inputs = tuple(one.clone().requires_grad_() for one in (moments, own, table))
        value = function(inputs[0], inputs[1], inputs[2], 1.5, left)
        found.append([value.detach(), *torch.autograd.grad(3 * value, inputs)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_large_logits_stay_numbers() -> None:
    moments, own, table = torch.full((1, 1), 300.0), torch.tensor([90.0]), torch.ones(2, 1)
    found = log_sum(moments, own, table, 1.0, Left(np.array([0]), np.array([0])))
    assert found.item() == pytest.approx(300.0)
