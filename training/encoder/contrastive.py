"""The contrastive loss of the dual encoder, and gradient caching: large batches in the memory of small ones."""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from training.encoder.loop import rank, world

# Vectors, not yet of length 1, of the texts with these numbers: (len, dim), with gradients to the weights.
Forward = Callable[[Sequence[int]], Tensor]
# The mean loss from the vectors of all texts of all processes, in the order of the processes.
Loss = Callable[[Tensor], Tensor]


def contrastive_loss(
    queries: Tensor, items: Tensor, allowed: Tensor, weights: Tensor, temperature: float, dims: Sequence[int] = ()
) -> Tensor:
    """InfoNCE over the batch (van den Oord et al. 2018): a scalar, the weighted mean over queries.

    `queries` (b, dim), `items` (n, dim), n >= b; the positive of query i is item i. `allowed`, bool (b, n), names what
    is compared with: never an item that is relevant, too. `weights` (b,). With `dims`, the mean of the losses of the
    vectors cut to each of them (Matryoshka, Kusupati et al. 2022).
    """
    own = torch.arange(len(queries), device=queries.device)
    losses = []
    for dim in dims or (queries.shape[1],):
        scores = F.normalize(queries[:, :dim], dim=1) @ F.normalize(items[:, :dim], dim=1).T / temperature
        each = F.cross_entropy(scores.masked_fill(~allowed, float("-inf")), own, reduction="none")
        losses.append((each * weights).sum() / weights.sum())
    return torch.stack(losses).mean()


def add_gradients(forward: Forward, loss: Loss, texts: int, chunk: int, share: float) -> float:
    """Adds `share` times the gradient of the loss over all texts to the weights, `chunk` texts at a time.

    Gradient caching (Gao et al. 2021): the vectors are made without a graph, the loss gives their gradients, and each
    chunk is made again with a graph to hand its gradients on to the weights. Dropout is the same both times. Processes
    exchange their vectors, so that each text is compared with those of all of them; every process must come with as
    many texts. Returns the loss.
    """
    # Not from the global state: a chunk must meet the same dropout twice.
    seed = int(torch.randint(2**31 - 1, ()))
    chunks = [range(begin, min(begin + chunk, texts)) for begin in range(0, texts, chunk)]

    def made(number: int) -> Tensor:
        torch.manual_seed(seed + number)
        return forward(chunks[number])

    if world() == 1 and len(chunks) == 1:
        found = loss(made(0).float())
        (found * share).backward()  # type: ignore[no-untyped-call]
        return float(found.detach())
    with torch.no_grad():
        vectors = torch.cat([made(number) for number in range(len(chunks))]).float()
    everything = _gathered(vectors)
    everything[rank()] = own = vectors.requires_grad_()
    found = loss(torch.cat(everything))
    # The loop averages over the processes, and this is the gradient of the loss of all of them.
    (gradients,) = torch.autograd.grad(found * share * world(), own)
    for number, part in enumerate(chunks):
        made(number).float().backward(gradients[part.start : part.stop])  # type: ignore[no-untyped-call]
    return float(found.detach())


def _gathered(vectors: Tensor) -> list[Tensor]:
    if world() == 1:
        return [vectors]
    everything = [torch.empty_like(vectors) for _ in range(world())]
    dist.all_gather(everything, vectors)
    return everything
