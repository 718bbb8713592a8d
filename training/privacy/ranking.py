"""What privacy costs the ranking heads: learned by DP-SGD with the shopper as what is private, and as they are served.

The features of a candidate are made by retrieval and the Transformer, which are learned of shoppers, too. Those are
others here: a shopper makes the legs, or teaches the heads, or is asked, and never two of it.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.special import expit
from torch.nn import functional as F  # noqa: N812

from services.domain.features import FEATURES, LIKE, MEANING, PROFILE, TOGETHER, WORDS
from training.privacy.audit import Taught
from training.privacy.datasets import bucket
from training.privacy.head import Head, Pace, descend, noise_for, spent
from training.privacy.learning import PACES, delta_for
from training.ranker.config import RankerConfig
from training.ranker.examples import session_examples
from training.ranker.heads import OBJECTIVES, Rows, Teller, calibration_error, fit, rows_of
from training.ranker.log import Bools, Floats, Ints
from training.ranker.pipeline import Shop, make_teller, shopper_vectors
from training.ranker.train import Training

MOMENTS = 4
"""Latest moments of a shopper that the heads learn from."""
# Of a hundred shoppers.
_LEGS, _VALIDATED, _TESTED, _TAUGHT = 40, 10, 20, 30
_EPOCHS = 8
# Not to be reached: the epochs are to end it, so that the same seed gives the same numbers.
_SECONDS = 3_600.0
# Log-odds that something is clicked of which no leg says anything.
_SELDOM = -5.0
_TRUSTED = ("affinity", WORDS, MEANING, LIKE, PROFILE, TOGETHER, "popularity")


@dataclass(frozen=True)
class Shown:
    """Candidates of shoppers at their latest moments; `shopper` (n,) numbers the shopper of each row from 0, all in the
    order of the rows."""

    rows: Rows
    shopper: Ints

    def __len__(self) -> int:
        return int(self.shopper[-1]) + 1

    def take(self, rows: Ints) -> "Shown":
        """These shoppers alone, in this order."""
        first, last = np.searchsorted(self.shopper, rows), np.searchsorted(self.shopper, rows, "right")
        at = np.concatenate([np.arange(low, high) for low, high in zip(first, last, strict=True)])
        moment = self.rows.moment[at]
        moment = np.cumsum(np.diff(moment, prepend=moment[0]) != 0)
        all_rows = Rows(self.rows.features[at], self.rows.labels[at], moment, self.rows.looked_at[at])
        return Shown(all_rows, np.repeat(np.arange(len(rows)), last - first))

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """For each shopper, padded with zeros: features (n, most, F), labels (n, most, 3) and what each candidate
        counts (n, most), one over the shopper's moments."""
        first = np.searchsorted(self.shopper, np.arange(len(self)))
        place = np.arange(len(self.shopper)) - first[self.shopper]
        shape = len(self), int(place.max()) + 1
        moments = np.bincount(self.shopper[np.unique(self.rows.moment, return_index=True)[1]])
        out = []
        for values in (self.rows.features, self.rows.labels, (1 / moments)[self.shopper].astype(np.float32)):
            padded = np.zeros((*shape, *values.shape[1:]), np.float32)
            padded[self.shopper, place] = values
            out.append(torch.from_numpy(padded))
        return out[0], out[1], out[2]


@dataclass(frozen=True)
class Candidates:
    """Of shoppers who are all others: learned from, chosen by, measured on."""

    train: Shown
    validation: Shown
    test: Shown


@dataclass(frozen=True)
class RankingCost:
    """Of one seed: NDCG@10 of the clicks among the candidates of the test's moments, and the calibration error of the
    click; of the private heads what was promised.

    `epsilon` is what the accountant found to be spent, `noise` is over the clip; `pace` was chosen on the validation.
    """

    seed: int
    shoppers: int
    epsilon: float
    delta: float
    noise: float
    pace: Pace
    untrained: float
    plain: float
    private: float
    plain_error: float
    private_error: float


def untrained() -> Head:
    """Where the private heads begin: every leg counts alike, and little is clicked."""
    weights = np.zeros((len(OBJECTIVES), len(FEATURES)), np.float32)
    weights[:, [FEATURES.index(name) for name in _TRUSTED]] = 1
    return Head(weights, np.full(len(OBJECTIVES), _SELDOM, np.float32))


def learn(data: Shown, pace: Pace, noise: float | None, seed: int) -> Head:
    """Ranking heads from `untrained` on by training.privacy.head.descend: all candidates of all moments of a shopper
    are a single example."""
    return descend(untrained(), data.tensors(), _losses, pace, noise, seed)


def fitted(data: Shown) -> Head:
    """Ranking heads as `train ranker` fits them (training.ranker.heads.fit)."""
    found = fit(data.rows)
    return Head(found.weights.T.copy(), found.bias)


def losses(head: Head, data: Shown) -> Floats:
    """Of each shopper the cross entropy of all candidates, the mean over moments: (n,)."""
    features, labels, counts = data.tensors()
    scores = torch.from_numpy(head.scores(features.numpy()))
    found: Floats = _losses(scores, labels, counts).numpy().astype(np.float64)
    return found


def cost(data: Candidates, epsilon: float, seed: int, done: Callable[[int, int], None]) -> RankingCost:
    """Learns private heads with all of PACES and measures once what did best on the validation, beside the heads as
    `train ranker` fits them (training.ranker.heads.fit) to the same moments.

    `done` is told the heads that were learned, and of how many. Raises ValueError where no noise reaches epsilon.
    """
    delta = delta_for(len(data.train))
    noise = noise_for(epsilon, delta, PACES[0])
    tried = []
    for pace in PACES:
        head = learn(data.train, pace, noise, seed)
        tried.append((_ndcg(head, data.validation), pace, head))
        done(len(tried), len(PACES) + 1)
    _, pace, private = max(tried, key=lambda each: each[0])
    plain = fitted(data.train)
    done(len(PACES) + 1, len(PACES) + 1)
    return RankingCost(
        seed,
        len(data.train),
        spent(noise, delta, pace),
        delta,
        noise,
        pace,
        _ndcg(untrained(), data.test),
        _ndcg(plain, data.test),
        _ndcg(private, data.test),
        _error(plain, data.test),
        _error(private, data.test),
    )


def read_candidates(shop: Shop, seed: int, done: Callable[[int, int], None]) -> Candidates:
    """What retrieval would show the shoppers of a shop at the begins of their latest sessions, by a hash of the seed
    and each shopper's id: 40 of 100 make the legs and teach the Transformer, 30 teach the heads, 10 are chosen by, 20
    are measured on.

    Of one shopper's rows nothing depends on another who teaches the heads: to be private is promised to these, for the
    heads, and not to those who made the legs. `done` is told the parts that are there, and of how many. Raises
    ValueError where a part has nobody.
    """
    log = shop.log
    places = np.array([bucket(f"{seed}:{shopper}", 100) for shopper in log.shopper_ids], np.int64)
    legs = places < _LEGS
    done(0, 4)
    teller = _teller(shop, seed, legs)
    bounds = np.cumsum([_LEGS, _VALIDATED, _TESTED, _TAUGHT])
    parts: list[Shown] = []
    for name, low, high in zip(("validation", "test", "training"), bounds[:-1], bounds[1:], strict=True):
        done(len(parts) + 1, 4)
        parts.append(_shown(shop, teller, (places >= low) & (places < high), name))
    done(4, 4)
    return Candidates(parts[2], parts[0], parts[1])


def _teller(shop: Shop, seed: int, legs: Bools) -> Teller:
    """Retrieval and a Transformer that know the shoppers `legs` alone, by number."""
    log, config = shop.log, RankerConfig(seed=seed, epochs=_EPOCHS)
    seen: Bools = legs[log.shopper]
    examples = session_examples(log, seed)
    learn = np.flatnonzero(legs[log.shopper[examples.end]])
    if not len(learn):
        raise ValueError("shoppers: those who are to make the legs have no two sessions; give more shoppers")
    with tempfile.TemporaryDirectory() as directory:
        trained = Training(
            log,
            examples,
            learn,
            learn[:0],
            shop.content,
            config,
            time.monotonic() + _SECONDS,
            Path(directory) / "transformer.pt",
            lambda epoch: None,
        ).run()
    until = float(log.time[seen].max()) if log.has_time else 0.0
    return make_teller(shop, trained, until, seen, seen)


def _shown(shop: Shop, teller: Teller, those: Bools, name: str) -> Shown:
    log = shop.log
    examples = session_examples(log, 0, within=False)
    of = log.shopper[examples.end]
    # How many moments of the shopper come after each.
    after = np.searchsorted(of, of, "right") - 1 - np.arange(len(of))
    chosen = np.flatnonzero(those[of] & (after < MOMENTS))
    rows = rows_of(teller, examples.take(chosen), shopper_vectors(teller.trained, teller.table, log, examples, chosen))
    if not rows.labels[:, 0].any():
        raise ValueError(f"shoppers: nobody of the {name} liked what retrieval brings; give more shoppers")
    return Shown(rows, np.unique(of[chosen][rows.moment], return_inverse=True)[1])


def _ndcg(head: Head, data: Shown) -> float:
    return data.rows.ndcg(head.scores(data.rows.features)[:, 0])


def _error(head: Head, data: Shown) -> float:
    return calibration_error(expit(head.scores(data.rows.features)[:, 0]), data.rows.labels[:, 0])


def _losses(scores: torch.Tensor, labels: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    each = F.binary_cross_entropy_with_logits(scores, labels, reduction="none").sum(dim=2)
    found: torch.Tensor = (each * counts).sum(dim=1)
    return found


RANKING: Taught[Shown] = Taught(learn, lambda data, seed: fitted(data), losses, _ndcg)
"""The ranking heads, as training.privacy.audit attacks them."""
