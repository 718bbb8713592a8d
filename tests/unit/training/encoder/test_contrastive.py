"""Gradient caching gives the gradients of the whole batch; what is relevant is no negative."""

import numpy as np
import pytest
import torch

from tests.unit.training.encoder import tiny
from training.encoder.contrastive import add_gradients, contrastive_loss
from training.encoder.model import padded, tokens

TEXTS = [f"{colour} {kind}" for colour in tiny.COLOURS for kind in tiny.KINDS][:24]


def gradients(chunk: int, dropout: float = 0.0) -> tuple[float, torch.Tensor]:
    model = tiny.model(dropout=dropout)
    model.module.train(dropout > 0)
    torch.manual_seed(3)
    ids = tokens(model, TEXTS)

    def forward(numbers: list[int] | range) -> torch.Tensor:
        pooled, _ = model.module(*padded([ids[number] for number in numbers], model.device))
        return pooled  # type: ignore[no-any-return]

    def loss(vectors: torch.Tensor) -> torch.Tensor:
        return contrastive_loss(vectors[:8], vectors[8:], torch.ones(8, 16, dtype=torch.bool), torch.ones(8), 0.1)

    found = add_gradients(forward, loss, len(TEXTS), chunk, 0.5)  # type: ignore[arg-type]
    return found, torch.cat([p.grad.flatten() for p in model.module.parameters() if p.grad is not None])


def test_cached_gradients_are_those_of_the_whole_batch() -> None:
    loss, whole = gradients(chunk=24)
    for chunk in (1, 5, 12):
        cached_loss, cached = gradients(chunk)
        assert cached_loss == pytest.approx(loss, rel=1e-5)
        assert cached.numpy() == pytest.approx(whole.numpy(), abs=1e-6)
    assert np.abs(whole.numpy()).max() > 1e-3


def test_a_chunk_meets_the_same_dropout_twice() -> None:
    # With other dropout the second time, a step along the gradient would not lead down for sure.
    _, once = gradients(chunk=5, dropout=0.5)
    _, again = gradients(chunk=5, dropout=0.5)
    assert torch.equal(once, again)


def test_the_loss_is_that_of_its_definition() -> None:
    torch.manual_seed(0)
    queries, items = torch.randn(3, 8), torch.randn(5, 8)
    allowed = torch.ones(3, 5, dtype=torch.bool)
    allowed[0, 4] = False
    weights = torch.tensor([1.0, 2.0, 3.0])
    q, i = queries.numpy(), items.numpy()
    scores = (q / np.linalg.norm(q, axis=1, keepdims=True)) @ (i / np.linalg.norm(i, axis=1, keepdims=True)).T / 0.1
    scores[0, 4] = -np.inf
    each = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(3), np.arange(3)]
    expected = (each * [1, 2, 3]).sum() / 6
    assert float(contrastive_loss(queries, items, allowed, weights, 0.1)) == pytest.approx(expected, rel=1e-5)


def test_matryoshka_is_the_mean_over_its_dimensions() -> None:
    torch.manual_seed(0)
    queries, items = torch.randn(4, 8), torch.randn(4, 8)
    allowed, weights = torch.ones(4, 4, dtype=torch.bool), torch.ones(4)
    both = contrastive_loss(queries, items, allowed, weights, 0.1, (4, 8))
    apart = [contrastive_loss(queries[:, :d], items[:, :d], allowed, weights, 0.1) for d in (4, 8)]
    assert float(both) == pytest.approx(float(sum(apart)) / 2)
