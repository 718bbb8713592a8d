"""What privacy costs the ranking heads: learned by DP-SGD with the shopper as what is private, and as they are served.

The features of a candidate are made by retrieval and the Transformer, which are learned of shoppers, too. Those are
others here: a shopper makes the legs, or teaches the heads, or is asked, and never two of it.
"""

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
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
from training.ranker.log import Bools, Floats, Ints, Log
from training.ranker.pipeline import Shop, make_teller, shopper_vectors, worth_of
from training.ranker.train import Epoch, Trained, Training

MOMENTS = 4
"""Latest moments of a shopper that the heads learn from."""
PAID = Pace(sum(pace.steps for pace in PACES), PACES[0].share, math.nan)
"""The steps of all of PACES, which share one chance to take part: what epsilon pays for."""
# Of a hundred shoppers.
_LEGS, _VALIDATED, _TESTED, _TAUGHT = 40, 10, 20, 30
# Of a part, about: what is known of them lies in memory at once.
_MOST_SHOPPERS = 5_000
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
class Private:
    """Heads that were learned privately, and what is promised to those who taught them.

    `epsilon` is what the accountant found to be spent, `noise` is over the clip; `pace` was chosen on the validation.
    """

    head: Head
    epsilon: float
    delta: float
    noise: float
    pace: Pace


@dataclass(frozen=True)
class RankingCost:
    """Of one seed: NDCG@10 of the clicks among the candidates of the test's moments, and the calibration error of the
    click; of the private heads what was promised, as in Private.
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


def learn_private(data: Candidates, epsilon: float, seed: int, done: Callable[[int, int], None]) -> Private:
    """Private heads learned with all of PACES: what does best on the validation.

    The choice looks at all of them, so epsilon pays for all, each with noise of its own. `done` is told the heads that
    were learned, and of how many. Raises ValueError where no noise reaches epsilon.
    """
    delta = delta_for(len(data.train))
    noise = noise_for(epsilon, delta, PAID)
    tried = []
    for number, pace in enumerate(PACES):
        head = learn(data.train, pace, noise, len(PACES) * seed + number)
        tried.append((_ndcg(head, data.validation), pace, head))
        done(len(tried), len(PACES))
    _, pace, best = max(tried, key=lambda each: each[0])
    return Private(best, spent(noise, delta, PAID), delta, noise, pace)


def cost(data: Candidates, epsilon: float, seed: int, done: Callable[[int, int], None]) -> RankingCost:
    """Measures private heads once, beside the heads as `train ranker` fits them (training.ranker.heads.fit) to the same
    moments. `done` and what is raised: as learn_private."""
    private = learn_private(data, epsilon, seed, done)
    plain = fitted(data.train)
    return RankingCost(
        seed,
        len(data.train),
        private.epsilon,
        private.delta,
        private.noise,
        private.pace,
        _ndcg(untrained(), data.test),
        _ndcg(plain, data.test),
        _ndcg(private.head, data.test),
        _error(plain, data.test),
        _error(private.head, data.test),
    )


def read_candidates(shop: Shop, seed: int, done: Callable[[int, int], None]) -> Candidates:
    """As make_candidates, with the settings that `train ranker` has by itself. `done` is told the parts that are there,
    and of how many."""
    done(0, 4)
    with tempfile.TemporaryDirectory() as directory:
        trained = learn_legs(shop, RankerConfig(seed=seed), Path(directory), lambda epoch: None)
    done(1, 4)
    return make_candidates(shop, trained, seed, lambda made: done(made + 1, 4))


def learn_legs(shop: Shop, config: RankerConfig, checkpoints: Path, told: Callable[[Epoch], None]) -> Trained:
    """A Transformer of the 40 of 100 shoppers who make the legs, by a hash of the seed and each shopper's id; the 10 by
    whom is chosen say after which epoch it ends. Nothing in it depends on anybody else, not even on whether they exist.

    It looks at no clock, so that the same seed gives the same model. Raises ValueError where a part has nobody.
    """
    log, makers = _alone(shop.log, config.seed, 0, _LEGS + _VALIDATED)
    by = replace(shop, log=log)
    examples = session_examples(log, config.seed)
    legs: Bools = makers[log.shopper[examples.end]] < _LEGS
    learn, choose = np.flatnonzero(legs), np.flatnonzero(~legs)
    if not len(learn) or not len(choose):
        raise ValueError("shoppers: those who are to make the legs have no two sessions; give more shoppers")
    choose = np.random.default_rng(config.seed).permutation(choose)[: config.validation_examples]
    return Training(
        log,
        examples,
        learn,
        choose,
        shop.content,
        config,
        math.inf,
        checkpoints / "transformer.pt",
        told,
        worth=worth_of(by, examples.take(learn), config),
    ).run()


def make_candidates(shop: Shop, trained: Trained, seed: int, made: Callable[[int], None]) -> Candidates:
    """What retrieval would show the shoppers of a shop at the begins of their latest sessions, by a hash of the seed
    and each shopper's id: 40 of 100 make the legs (`trained` is of learn_legs), 30 teach the heads, 10 are chosen by,
    20 are measured on; about 5,000 of each where there are more.

    Of one shopper's rows nothing depends on another who teaches the heads: to be private is promised to these, for the
    heads, and not to those who made the legs. `made` is told how many of the three parts are there. Raises ValueError
    where one has nobody.
    """
    log, _ = _alone(shop.log, seed, 0, _LEGS)
    everybody = np.ones(len(log.item), np.bool_)
    until = float(log.time.max(initial=0.0)) if log.has_time else 0.0
    teller = make_teller(replace(shop, log=log), trained, until, everybody)
    teller = replace(teller, situations=replace(teller.situations, log=shop.log))
    places = _places(shop.log, seed)
    bounds = np.cumsum([_LEGS, _VALIDATED, _TESTED, _TAUGHT])
    parts: list[Shown] = []
    for name, low, high in zip(("validation", "test", "training"), bounds[:-1], bounds[1:], strict=True):
        those = np.flatnonzero((places >= low) & (places < high))
        parts.append(_shown(shop, trained, teller, those, seed, name))
        made(len(parts))
    return Candidates(parts[2], parts[0], parts[1])


def _places(log: Log, seed: int) -> Ints:
    """0 to 99 for each shopper, by a hash: who has which part."""
    return np.array([bucket(f"{seed}:{shopper}", 100) for shopper in log.shopper_ids], np.int64)


def _alone(log: Log, seed: int, low: int, high: int) -> tuple[Log, Ints]:
    """The log of the shoppers of these places alone, with the place of each. They are numbered by the order of their
    ids: in the order of the whole log, drawn by lot, who else exists decides who stands where."""
    places = _places(log, seed)
    some = np.flatnonzero((places >= low) & (places < high)).tolist()
    some = sorted(some, key=lambda number: log.shopper_ids[number])
    rows = np.concatenate([np.arange(log.starts[one], log.starts[one + 1]) for one in some] or [np.empty(0, np.int64)])
    sizes = np.diff(log.starts)[some]
    session = log.session[rows]
    return (
        Log(
            log.item_ids,
            [log.shopper_ids[one] for one in some],
            log.has_time,
            np.repeat(np.arange(len(some)), sizes),
            log.item[rows],
            log.type[rows],
            log.time[rows],
            np.cumsum(np.diff(session, prepend=session[:1]) != 0),
            log.scene[rows],
            log.query[rows],
        ),
        places[some],
    )


def _shown(shop: Shop, trained: Trained, teller: Teller, those: Ints, seed: int, name: str) -> Shown:
    log = shop.log
    examples = session_examples(log, 0, within=False)
    of = log.shopper[examples.end]
    # How many moments of the shopper come after each.
    after = np.searchsorted(of, of, "right") - 1 - np.arange(len(of))
    # Each by their own id: of the first so many, one who leaves would let another in.
    drawn = np.array([bucket(f"{seed}:{log.shopper_ids[one]}:read", len(those)) for one in those.tolist()], np.int64)
    chosen = np.flatnonzero(np.isin(of, those[drawn < _MOST_SHOPPERS]) & (after < MOMENTS))
    rows = rows_of(teller, examples.take(chosen), shopper_vectors(trained, teller.table, log, examples, chosen))
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


RANKING: Taught[Shown] = Taught(learn, lambda data, seed: fitted(data), losses, _ndcg, PAID)
"""The ranking heads, as training.privacy.audit attacks them."""
