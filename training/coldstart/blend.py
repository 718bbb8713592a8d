"""Fits the blend of strategies: one score for known and unknown items and for shoppers of any history.

The blend is a softmax over the catalogue (McFadden 1974), fitted to what shoppers took next while some known items were
made unknown: so the scores of known and unknown items are in one unit, the log-odds of being next.
"""

from dataclasses import dataclass

import numpy as np
import torch

from services.domain.strategies import NAMES, Blend, confidence
from souk.vectors import Float32
from training.ranker.log import Bools, Ints
from training.ranker.measures import best

_OF_A_STRATEGY, _ANY = 40, 256
_STEPS = 80
# Before anything is learned known items are taken as often as they are popular, whatever else is said of them, and for
# an unknown item each strategy speaks a little; how far weights may go from there grows with the moments learned from.
_POPULAR = NAMES.index("popularity")
_OF_UNKNOWN, _PENALTY = 0.3, 5.0
# Instead of minus infinity.
_NEVER = -1e9


@dataclass(frozen=True)
class Sample:
    """One moment to learn from: c candidates of the catalogue, what strategies say of them, and which was taken."""

    features: Float32
    """(c, len(NAMES))."""
    unknown: Bools
    weight: Float32
    """How many items of the catalogue each candidate stands for: (c,)."""
    taken: Float32
    """Share of what was taken, summing to 1: (c,)."""
    events: int


def sample(
    features: Float32, unknown: Bools, able: Bools, taken: Ints, events: int, rng: np.random.Generator
) -> Sample | None:
    """The best of each strategy and 256 others, each of which stands for as many as were left out; None where nothing
    that was taken is `able` to be ranked. `taken`: numbers of items."""
    taken = np.unique(taken[able[taken]])
    if not len(taken):
        return None
    masked = np.where(able[:, None] & (features != 0), features, np.nan).T
    chosen = np.zeros(len(unknown), bool)
    first = best(masked, _OF_A_STRATEGY)
    chosen[first[first >= 0]] = True
    chosen[taken] = True
    others = np.flatnonzero(able & ~chosen)
    drawn = rng.choice(others, min(_ANY, len(others)), replace=False)
    rows = np.concatenate([np.flatnonzero(chosen), drawn])
    weight = np.ones(len(rows), np.float32)
    weight[len(rows) - len(drawn) :] = len(others) / max(len(drawn), 1)
    return Sample(features[rows], unknown[rows], weight, (np.isin(rows, taken) / len(taken)).astype(np.float32), events)


def fit_blend(samples: list[Sample]) -> Blend:
    """The most likely weights given a normal prior on those of standardised features, by L-BFGS: few moments leave them
    near it, and it is that odds are as popularity's, a log share, alone says. Raises ValueError without samples."""
    if not samples:
        raise ValueError("samples: nothing to learn a blend from")
    size = max(len(one.unknown) for one in samples)
    x = torch.zeros(len(samples), size, len(NAMES))
    group = torch.zeros(len(samples), size, dtype=torch.int64)
    offset = torch.full((len(samples), size), _NEVER)
    taken = torch.zeros(len(samples), size)
    for row, one in enumerate(samples):
        c = len(one.unknown)
        x[row, :c] = torch.from_numpy(one.features)
        group[row, :c] = torch.from_numpy(one.unknown.astype(np.int64))
        offset[row, :c] = torch.from_numpy(np.log(one.weight))
        taken[row, :c] = torch.from_numpy(one.taken)
    sure = torch.tensor([confidence(one.events) for one in samples])[:, None]
    scale = x.square().mean(dim=(0, 1)).sqrt()
    # What never says anything here must not when it does in serving.
    used = scale > 1e-6
    x = x / torch.where(used, scale, torch.ones(())) * used
    first = torch.zeros(2, 2, len(NAMES))
    first[0, 0, _POPULAR] = scale[_POPULAR]
    first[1, 0] = _OF_UNKNOWN
    weights = first.clone().requires_grad_()
    bias = torch.zeros(2, 2, requires_grad=True)
    solver = torch.optim.LBFGS([weights, bias], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        plain = x @ weights[:, 0].T + bias[:, 0]
        added = x @ weights[:, 1].T + bias[:, 1]
        said = (plain + sure[..., None] * added).gather(2, group[..., None])[..., 0]
        value = (torch.logsumexp(said + offset, dim=1) - (said * taken).sum(dim=1)).mean()
        value = value + _PENALTY / len(samples) * ((weights - first).square().sum() + bias.square().sum())
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    folded = torch.where(used, weights.detach() / torch.where(used, scale, torch.ones(())), torch.zeros(()))
    return Blend(folded.numpy(), bias.detach().numpy())
