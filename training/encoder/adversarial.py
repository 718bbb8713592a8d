"""Adversarial training: the loss once more where the word embeddings are moved to its worst."""

from collections.abc import Callable

import torch
from torch import Tensor

# Adds the gradients of the loss as the embeddings are now.
AddGradients = Callable[[], object]


def fgm(embeddings: torch.nn.Parameter, epsilon: float, add_gradients: AddGradients) -> None:
    """Fast gradient method (Miyato et al. 2017): adds the gradients at embeddings moved by epsilon along theirs.

    Called after the gradients of the batch were added. The matrix is moved as one, `epsilon` is the length of the move
    over all of it, so that a batch may be computed in parts; afterwards it is what it was, bit by bit.
    """
    if embeddings.grad is None:
        raise ValueError("the embeddings have no gradient to go along")
    kept = embeddings.detach().clone()
    with torch.no_grad():
        embeddings.add_(epsilon * _direction(embeddings.grad))
    add_gradients()
    with torch.no_grad():
        embeddings.copy_(kept)


def pgd(
    module: torch.nn.Module,
    embeddings: torch.nn.Parameter,
    epsilon: float,
    steps: int,
    step_size: float,
    add_gradients: AddGradients,
) -> None:
    """Projected gradient descent (Madry et al. 2018): as `fgm`, found in `steps` moves of `step_size` each.

    After each move the embeddings are brought back to within epsilon of where they were; only the gradients of the
    last place are added to those of the batch.
    """
    if embeddings.grad is None:
        raise ValueError("the embeddings have no gradient to go along")
    kept = embeddings.detach().clone()
    gradients = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    for step in range(steps):
        with torch.no_grad():
            embeddings.add_(step_size * _direction(embeddings.grad))
            moved = embeddings - kept
            embeddings.copy_(kept + moved * min(1.0, epsilon / max(float(moved.norm()), 1e-12)))
        last = step == steps - 1
        for name, parameter in module.named_parameters():
            parameter.grad = gradients[name].clone() if last and name in gradients else None
        add_gradients()
    with torch.no_grad():
        embeddings.copy_(kept)


def _direction(gradient: Tensor) -> Tensor:
    found: Tensor = gradient / torch.linalg.vector_norm(gradient).clamp(min=1e-12)
    return found
