"""Attacks move the embeddings uphill by what they may, add their gradients, and leave everything as it was."""

import torch

from training.encoder.adversarial import fgm, pgd


class Bowl(torch.nn.Module):
    """A loss of two matrices; the places where it was asked for are kept."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embeddings = torch.nn.Parameter(torch.randn(5, 4))
        self.other = torch.nn.Parameter(torch.randn(4, 4))
        self.seen: list[torch.Tensor] = []

    def add(self) -> None:
        self.seen.append(self.embeddings.detach().clone())
        ((self.embeddings @ self.other) ** 2).sum().backward()  # type: ignore[no-untyped-call]

    def loss_at(self, number: int) -> float:
        return float(((self.seen[number] @ self.other.detach()) ** 2).sum())


def test_fgm_moves_by_epsilon_and_restores_exactly() -> None:
    bowl = Bowl()
    before = bowl.embeddings.detach().clone()
    bowl.add()
    clean = bowl.other.grad.clone()  # type: ignore[union-attr]
    fgm(bowl.embeddings, 0.5, bowl.add)
    assert torch.equal(bowl.embeddings, before)
    assert abs(float((bowl.seen[1] - before).norm()) - 0.5) < 1e-5
    assert bowl.loss_at(1) > bowl.loss_at(0)
    alone = Bowl()
    with torch.no_grad():
        alone.embeddings.copy_(bowl.seen[1])
    alone.add()
    assert torch.allclose(bowl.other.grad, clean + alone.other.grad)  # type: ignore[operator, arg-type]


def test_pgd_stays_within_epsilon_and_adds_the_last_gradients_only() -> None:
    bowl = Bowl()
    before = bowl.embeddings.detach().clone()
    bowl.add()
    clean = bowl.other.grad.clone()  # type: ignore[union-attr]
    pgd(bowl, bowl.embeddings, 0.5, 4, 0.3, bowl.add)
    assert torch.equal(bowl.embeddings, before)
    moves = [float((place - before).norm()) for place in bowl.seen]
    assert abs(moves[1] - 0.3) < 1e-5
    assert max(moves) < 0.5 + 1e-5
    assert abs(moves[4] - 0.5) < 1e-5
    assert bowl.loss_at(4) > bowl.loss_at(1) > bowl.loss_at(0)
    alone = Bowl()
    with torch.no_grad():
        alone.embeddings.copy_(bowl.seen[4])
    alone.add()
    assert torch.allclose(bowl.other.grad, clean + alone.other.grad)  # type: ignore[operator, arg-type]
