"""What privacy costs: the profile head learned with and without, beside coldstart's untrained profile."""

from collections.abc import Callable
from dataclasses import dataclass

from training.privacy.head import Head, Pace, learn, noise_for, spent, untrained
from training.privacy.interests import Interests, split

PACES = tuple(Pace(40, 0.5, rate) for rate in (0.05, 0.25, 1.0, 4.0))
"""What both twins may choose from."""
# The delta of all shoppers together: far below the one in which giving a shopper away whole would be private.
_DELTA = 0.1


@dataclass(frozen=True)
class Cost:
    """Of one seed: NDCG@10 over the test's moments of each system, and of the private one what was promised.

    `epsilon` is what the accountant found to be spent, `noise` is over the clip. `private_pace` and `plain_pace` were
    chosen on the validation.
    """

    seed: int
    shoppers: int
    epsilon: float
    delta: float
    noise: float
    private_pace: Pace
    plain_pace: Pace
    untrained: float
    plain: float
    private: float


def delta_for(shoppers: int) -> float:
    """A tenth of one over the number of shoppers that are learned from."""
    return _DELTA / shoppers


def cost(data: Interests, epsilon: float, seed: int, done: Callable[[int, int], None]) -> Cost:
    """Learns both twins on the same shoppers with all of PACES, and measures once what did best on the validation.

    `done` is told the heads that were learned, and of how many. Raises ValueError where there are too few shoppers, or
    where no noise reaches epsilon.
    """
    parts = split(data, seed)
    delta = delta_for(len(parts.train))
    # The same for all: they differ in their rate alone.
    noise = noise_for(epsilon, delta, PACES[0])
    total = 2 * len(PACES)
    plain: list[tuple[float, Pace, Head]] = []
    private: list[tuple[float, Pace, Head]] = []
    for pace in PACES:
        for found, added in ((plain, None), (private, noise)):
            head = learn(parts.train, pace, added, seed)
            found.append((head.ndcg(parts.validation), pace, head))
            done(len(plain) + len(private), total)
    _, plain_pace, of_plain = max(plain, key=lambda each: each[0])
    _, private_pace, of_private = max(private, key=lambda each: each[0])
    return Cost(
        seed,
        len(parts.train),
        spent(noise, delta, private_pace),
        delta,
        noise,
        private_pace,
        plain_pace,
        untrained(data.wanted.shape[2]).ndcg(parts.test),
        of_plain.ndcg(parts.test),
        of_private.ndcg(parts.test),
    )
