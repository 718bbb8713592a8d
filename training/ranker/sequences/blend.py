"""Weights of the network and of the signals beside it, fitted to what shoppers of the validation met next."""

from collections.abc import Container
from dataclasses import dataclass

import numpy as np
import torch

from services.domain.signals import Signals
from souk.vectors import Float32
from training.ranker.log import Floats, Ints
from training.ranker.sequences.files import Sequences
from training.ranker.sequences.judging import Scores, leave_out, moments
from training.ranker.sequences.signals import NETWORK

_CANDIDATES = 150
_ITERATIONS = 100
_PRIOR = 10.0
_SMALLEST_SPREAD = 1e-6
# On either side of where a single candidate would be even odds, in log-odds.
_WIDE, _HALVINGS = 30.0, 60


@dataclass(frozen=True)
class Moments:
    """Of each of m moments candidates, `values` (candidates, signals) in the order of `names`, and at which `place` of
    them is what was met."""

    names: list[str]
    values: list[Float32]
    places: list[int]

    @classmethod
    def of(cls, sequences: Sequences, shoppers: Ints, products: Scores, signals: Signals, masked: bool) -> "Moments":
        """The validation of these shoppers: the 150 items that the network puts highest and the 150 that follows does,
        where what was met is among them. What was met before is no candidate where it is `masked`."""
        made = cls([], [], [])
        for histories, items in moments(sequences, 2, shoppers):
            found = {NETWORK: products(histories), **signals.named(histories)}
            if masked:
                leave_out(found[NETWORK], histories)
            made.names[:] = found
            for row, item in enumerate(items.tolist()):
                chosen = np.union1d(_highest(found[NETWORK][row]), _highest(found["follows"][row]))
                chosen = chosen[np.isfinite(found[NETWORK][row, chosen])]
                if item in chosen:
                    made.values.append(np.stack([values[row, chosen] for values in found.values()], axis=1))
                    made.places.append(int(np.flatnonzero(chosen == item)[0]))
        return made

    def without(self, names: Container[str]) -> "Moments":
        """The same without these signals."""
        kept = [at for at, name in enumerate(self.names) if name not in names]
        values = [each[:, kept] for each in self.values]
        return Moments([self.names[at] for at in kept], values, self.places)


def fit_weights(moments: Moments) -> tuple[dict[str, float], float]:
    """A weight by name of signal, the network's among them: a multinomial logit (McFadden 1974) of the item met next
    among the candidates. And a bias, with which the mean of sigmoid(score + bias) over these candidates is the share of
    those that were met: calibration in the large.

    Over the weights of the standardised signals lies a normal prior of precision 10 around the network alone, so that
    few moments move little.
    """
    if not moments.values:
        return {NETWORK: 1.0}, 0.0
    together = np.concatenate(moments.values)
    spread = np.maximum(together.std(axis=0), _SMALLEST_SPREAD)
    at = moments.names.index(NETWORK)
    first = torch.zeros(len(spread))
    first[at] = float(spread[at])
    weights = _fit(moments.values, moments.places, spread, first).numpy() / spread
    return dict(zip(moments.names, weights.tolist(), strict=True)), _bias(together @ weights, len(moments.values))


def _bias(scores: Floats, met: int) -> float:
    """With which sigmoid(score + bias) adds up to the number of candidates that were met, found by halving."""
    low, high = -float(scores.max()) - _WIDE, -float(scores.min()) + _WIDE
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if (1 / (1 + np.exp(-(scores + middle)))).sum() < met:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _fit(rows: list[Float32], places: list[int], spread: Float32, first: torch.Tensor) -> torch.Tensor:
    size = max(map(len, rows))
    x = torch.zeros(len(rows), size, len(first))
    nothing = torch.zeros(len(rows), size)
    for number, values in enumerate(rows):
        x[number, : len(values)] = torch.from_numpy(values / spread)
        nothing[number, len(values) :] = -torch.inf
    right = torch.tensor(places)
    weights = first.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([weights], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimiser.zero_grad()
        wrong = torch.nn.functional.cross_entropy(x @ weights + nothing, right, reduction="sum")
        total = wrong + _PRIOR * ((weights - first) ** 2).sum() / 2
        total.backward()  # type: ignore[no-untyped-call]
        return float(total.detach())

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach()


def _highest(scores: Float32) -> Ints:
    most = min(_CANDIDATES, len(scores))
    found: Ints = np.argpartition(scores, -most)[-most:]
    return found
