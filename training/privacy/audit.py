"""Whether a head tells who it was learned from: membership inference, with and without privacy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

import numpy as np
from scipy.stats import norm

from training.evaluate.bootstrap import interval
from training.privacy.head import Head, Pace, learn, noise_for
from training.privacy.interests import Interests
from training.privacy.learning import PACES, delta_for
from training.ranker.log import Bools, Floats, Ints

ATTACKED = 0.60
"""An attack that reaches less where nothing is private shows nothing where something is."""
RESISTED = 0.53
# Until it knows its shoppers by heart.
_CONVERGED = Pace(400, 1.0, 8.0)
_LEAST = 40
_LEAST_LOSS = 1e-6


class Crowd(Protocol):
    """What is known of shoppers, one after another."""

    def __len__(self) -> int:
        """How many they are."""

    def take(self, rows: Ints) -> Self:
        """These shoppers alone, in this order."""


Data = TypeVar("Data", bound=Crowd)


@dataclass(frozen=True)
class Taught(Generic[Data]):
    """A kind of head: how it is learned privately (with a pace, the noise and a seed) and as it is without (with a
    seed), the loss (n,) of each shopper, NDCG@10 over shoppers, and the steps that epsilon pays for."""

    private: Callable[[Data, Pace, float, int], Head]
    plain: Callable[[Data, int], Head]
    losses: Callable[[Head, Data], Floats]
    ndcg: Callable[[Head, Data], float]
    paid: Pace


PROFILE: Taught[Interests] = Taught(
    learn, lambda data, seed: learn(data, _CONVERGED, None, seed), Head.losses, Head.ndcg, PACES[0]
)


@dataclass(frozen=True)
class Attack:
    """The chance that a shopper who was learned from looks it more than one who was not, and its 95% interval."""

    auc: float
    low: float
    high: float


@dataclass(frozen=True)
class Attacked:
    """One kind of head: both attacks, and NDCG@10 over the shoppers that no head was learned from, mean over heads."""

    threshold: Attack
    lira: Attack
    ndcg: float

    @property
    def strongest(self) -> float:
        """The AUC of the attack that does better."""
        return max(self.threshold.auc, self.lira.auc)


@dataclass(frozen=True)
class Audit:
    """`shoppers` of whom every head learned from half, (epsilon, delta) of the private ones."""

    shoppers: int
    models: int
    epsilon: float
    delta: float
    noise: float
    plain: Attacked
    private: Attacked

    @property
    def verdict(self) -> str:
        """inconclusive, resisted or attacked."""
        if self.plain.strongest < ATTACKED:
            return "inconclusive"
        return "resisted" if self.private.strongest <= RESISTED else "attacked"


def audit(
    taught: Taught[Data],
    data: Data,
    epsilon: float,
    shoppers: int,
    models: int,
    seed: int,
    done: Callable[[int, int], None],
) -> Audit:
    """Attacks `models` heads with privacy and as many without, each learned from half of `shoppers` drawn by the seed;
    each shopper is in half of the heads.

    Every head is attacked in turn, by the loss alone (Yeom et al. 2018) and by LiRA (Carlini et al. 2022, online) with
    all others of its kind as shadows. The profile head without privacy learns until it knows its shoppers by heart, the
    ranking heads as `train ranker` fits them; the private ones with the rate that does best, learned once, for shoppers
    who are not attacked. Raises ValueError where shoppers or models are too few, or leave nobody to measure on.
    """
    if models < 4 or models % 2:
        raise ValueError(f"models must be an even number of at least 4, not {models}")
    if not _LEAST <= shoppers < len(data):
        raise ValueError(f"shoppers must be {_LEAST} to {len(data) - 1}, one less than have a moment, not {shoppers}")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(data))
    attacked, others = data.take(order[:shoppers]), data.take(order[shoppers:])
    # Each shopper in half of the heads: a row of numbers a shopper, the lower half are in.
    member = rng.random((models, shoppers)).argsort(axis=0) < models // 2
    delta = delta_for(int(member.sum(axis=1).max()))
    noise = noise_for(epsilon, delta, taught.paid)
    total = 2 * models + len(PACES)

    def those(model: int) -> Data:
        return attacked.take(np.flatnonzero(member[model]))

    tried = []
    for pace in PACES:
        tried.append((taught.ndcg(taught.private(those(0), pace, noise, seed), others), pace))
        done(len(tried), total)
    best = max(tried, key=lambda each: each[0])[1]
    found = []
    for kind, private in enumerate((False, True)):
        heads = []
        for model in range(models):
            data, own = those(model), seed + model
            heads.append(taught.private(data, best, noise, own) if private else taught.plain(data, own))
            done(len(PACES) + kind * models + len(heads), total)
        losses = np.stack([taught.losses(head, attacked) for head in heads])
        found.append(
            Attacked(
                _attack(-losses, member),
                _attack(lira(losses, member), member),
                float(np.mean([taught.ndcg(head, others) for head in heads])),
            )
        )
    return Audit(shoppers, models, epsilon, delta, noise, *found)


def lira(losses: Floats, member: Bools) -> Floats:
    """The likelihood ratio attack, online (Carlini et al. 2022, "Membership inference attacks from first principles",
    algorithm 1): of losses and membership (models, shoppers), how much more each loss looks like those of heads with
    the shopper than of those without, all but the attacked one: (models, shoppers), log-odds.

    Losses l are scaled to log(p / (1 - p)) of p = exp(-l); the variances are those of all shoppers, as the paper has it
    for few shadows.
    """
    confidence = -losses - np.log(-np.expm1(-np.maximum(losses, _LEAST_LOSS)))
    found = np.empty_like(confidence)
    for model in range(len(losses)):
        shadows = np.arange(len(losses)) != model
        values, inside = confidence[shadows], member[shadows]
        told = []
        for part in (inside, ~inside):
            mean = (values * part).sum(axis=0) / part.sum(axis=0)
            deviation = np.sqrt((((values - mean) ** 2) * part).sum() / part.sum())
            told.append(norm.logpdf(confidence[model], mean, max(float(deviation), 1e-9)))
        found[model] = told[0] - told[1]
    return found


def _attack(scores: Floats, member: Bools) -> Attack:
    """Of scores and membership (models, shoppers): the mean AUC, with shoppers drawn anew.

    A shopper's part in it is how often they stand above those who are not members, as a member, and below those who
    are, as none (the components of DeLong, DeLong and Clarke-Pearson 1988).
    """
    above = (scores[:, :, None] > scores[:, None, :]) + 0.5 * (scores[:, :, None] == scores[:, None, :])
    pairs = member[:, :, None] & ~member[:, None, :]
    auc = float((above * pairs).sum() / pairs.sum())
    of_shopper = ((above * pairs).sum(axis=(0, 2)) + (above * pairs).sum(axis=(0, 1))) * len(pairs[0]) / pairs.sum()
    low, high = interval(of_shopper - auc)
    return Attack(auc, low, high)
