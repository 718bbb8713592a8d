"""The place for a new item on generated shops whose truth is known: what each way of filling it loses on the way.

Arms are the newest items; every impression a shopper comes, of whom half are known by their department, as coldstart
knows them by their categories: then the arms are those of it. The chance of a click is the generator's for HOME at the
place that coldstart keeps. Clicks are heard of late, after a batch of impressions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from services.domain import thompson
from services.domain.strategies import nearest_known
from souk.vectors import Float32
from training.data import world
from training.data.behaviour import EXAMINED
from training.data.world import Bools, Floats, Ints

TRIALS = 4
HOT_CLICKS = 5
"""Clicks with which an item is HOT: as many events as make a shopper HOT."""
_ITEMS, _SHOPPERS, _ARMS, _KNOWN = 1_500, 1_000, 40, 400
_PLACE = 4
_BATCH = 50
# How often each item that is not new was shown before.
_SHOWN_BEFORE = 100
_LIKES = 20
_KNOWN_SHOPPERS = 0.5
_GOOD = 0.1

Settings = Mapping[str, float]


@dataclass(frozen=True)
class World:
    """One generated shop: n arms, s shoppers, t impressions."""

    chance: Floats
    """Of a click: (s, n)."""
    worth: Floats
    """The same, the mean over all shoppers of whom the same is known: (s, n)."""
    able: list[Ints]
    """The arms that may be shown at each impression: (t,) of them."""
    shopper: Ints
    """Who comes: (t,)."""
    expected: Floats
    """Click rate of each arm as its content has it: (n,)."""
    features: Floats
    """What is told of the arms, for those who learn from it: (n, d)."""
    tells: Floats
    """What is told of the shoppers: (s, e)."""

    @property
    def good(self) -> Ints:
        """The tenth of the arms that shoppers like best."""
        rates = self.chance.mean(axis=0)
        return np.argsort(-rates)[: max(1, round(_GOOD * len(rates)))]


def draw_world(seed: int, impressions: int) -> World:
    """The shop of a seed."""
    market, catalogue = world.draw_market(seed), world.draw_catalogue(seed, _ITEMS)
    shoppers = world.draw_shoppers(seed, market, 0, _SHOPPERS)
    rng = np.random.default_rng([seed, 1])
    shown = np.flatnonzero(~catalogue.hidden & (catalogue.stock > 0))
    newest = shown[np.argsort(-catalogue.created[shown])]
    arms, known = newest[:_ARMS], rng.permutation(newest[_ARMS:])[:_KNOWN]
    items = np.concatenate([arms, known])
    chance = _chances(market, catalogue, shoppers, items)
    content = _content(market, catalogue, items)
    old = np.arange(len(items)) >= len(arms)
    clicked = np.where(old, rng.binomial(_SHOWN_BEFORE, chance.mean(axis=0)), 0)
    like, likeness = nearest_known(content, old, _LIKES)
    expected = [
        thompson.expected_rate(
            (weight, _SHOWN_BEFORE, int(clicked[other])) for other, weight in zip(near, weights, strict=True)
        )
        for near, weights in zip(like[: len(arms)].tolist(), likeness[: len(arms)].tolist(), strict=True)
    ]
    department = world.DEPARTMENT[catalogue.group[arms] // 2]
    of_department = [np.flatnonzero(department == one) for one in range(int(world.DEPARTMENT.max()) + 1)]
    liked = np.zeros((_SHOPPERS, len(of_department)))
    np.add.at(liked.T, world.DEPARTMENT, shoppers.taste.T)
    favourite = liked.argmax(axis=1)
    who = rng.integers(_SHOPPERS, size=impressions)
    tells = rng.random(_SHOPPERS) < _KNOWN_SHOPPERS
    everything = np.arange(len(arms))
    able = [
        own if tells[one] and len(own := of_department[int(favourite[one])]) else everything for one in who.tolist()
    ]
    features = np.concatenate(
        [np.eye(len(of_department))[department], catalogue.price_level[arms][:, None], np.eye(len(arms))], axis=1
    )
    told = np.eye(len(of_department))[favourite] * tells[:, None]
    chance = chance[:, : len(arms)]
    kind = np.where(tells, favourite, -1)
    worth = np.stack([chance[kind == one].mean(axis=0) for one in kind.tolist()])
    return World(chance, worth, able, who, np.array(expected), features, told)


def _chances(market: world.Market, catalogue: world.Catalogue, shoppers: world.Shoppers, items: Ints) -> Floats:
    """As training.data.behaviour draws clicks in HOME, without a promotion: (shoppers, items)."""
    rows = np.arange(len(shoppers.country))
    fit = world.appeal(market, catalogue, shoppers, rows, np.broadcast_to(items, (len(rows), len(items))))
    taste = shoppers.taste[:, catalogue.group[items] // 2]
    pull = np.clip(np.log(taste * len(world.LEAVES) + 1e-9), -2.5, 1.5)
    chance: Floats = EXAMINED[_PLACE] / (1 + np.exp(0.9 - fit - pull))
    return chance


def _content(market: world.Market, catalogue: world.Catalogue, items: Ints) -> Float32:
    """What an encoder would read of the items: leaf, brand, colour and price, (n, d) of length 1."""
    parts = (
        np.eye(len(world.LEAVES))[catalogue.group[items] // 2],
        0.7 * np.eye(len(market.brand_style))[catalogue.brand[items]],
        0.4 * np.eye(len(market.colour_style))[catalogue.colour[items]],
        0.3 * catalogue.price_level[items][:, None],
    )
    vectors = np.concatenate(parts, axis=1)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


class System(Protocol):
    """Fills the place."""

    def pick(self, shopper: int, able: Ints, rng: np.random.Generator) -> int:
        """One of the arms that may be shown."""

    def hear(self, shopper: Ints, arm: Ints, clicked: Bools) -> None:
        """Of a batch of impressions."""


class Counts:
    """How often each arm was shown and clicked, as far as it was heard of."""

    def __init__(self, shop: World, settings: Settings) -> None:
        n = shop.chance.shape[1]
        self.shop = shop
        self.settings = settings
        self.shown, self.clicked = np.zeros(n, np.int64), np.zeros(n, np.int64)

    def hear(self, shopper: Ints, arm: Ints, clicked: Bools) -> None:
        """Of a batch of impressions."""
        np.add.at(self.shown, arm, 1)
        np.add.at(self.clicked, arm[clicked], 1)

    def rates(self, expected: Floats | float, strength: float) -> Floats:
        """Posterior means of the click rates: (n,)."""
        found: Floats = (strength * np.asarray(expected) + self.clicked) / (strength + self.shown)
        return found


class Thompson(Counts):
    """What coldstart serves: Thompson sampling of Beta posteriors with its floor, `strength` showings of a prior from
    content."""

    _expected: Floats | None = None
    _odds: dict[bytes, Floats]

    def __init__(self, shop: World, settings: Settings) -> None:
        super().__init__(shop, settings)
        self._odds = {}

    def expected(self) -> Floats:
        """The click rate thought of each arm before it was shown: (n,)."""
        return self.shop.expected

    def pick(self, shopper: int, able: Ints, rng: np.random.Generator) -> int:
        """One of the arms that may be shown."""
        key = able.tobytes()
        if key not in self._odds:
            odds = thompson.best_rate_odds(
                self.expected()[able].tolist(),
                self.shown[able].tolist(),
                self.clicked[able].tolist(),
                self.settings["strength"],
            )
            self._odds[key] = thompson.propensities(odds)
        return int(able[thompson.pick(self._odds[key], rng.random())])

    def hear(self, shopper: Ints, arm: Ints, clicked: Bools) -> None:
        """Of a batch of impressions."""
        super().hear(shopper, arm, clicked)
        self._odds = {}


class WithoutContent(Thompson):
    """The same, every arm expected to be as usual."""

    def expected(self) -> Floats:
        """What is usual."""
        return np.full(len(self.shown), thompson.USUAL_RATE)


class Greedy(Counts):
    """Pure exploitation: the arm of the highest rate so far; `usual` is thought of each before, as 20 showings."""

    def pick(self, shopper: int, able: Ints, rng: np.random.Generator) -> int:
        """One of the arms that may be shown; of equals any."""
        rates = self.rates(self.settings["usual"], 20.0)[able]
        return int(rng.choice(able[rates == rates.max()]))


class EpsilonGreedy(Greedy):
    """The same but for a share `epsilon` of the impressions, which show any arm."""

    def pick(self, shopper: int, able: Ints, rng: np.random.Generator) -> int:
        """One of the arms that may be shown."""
        if rng.random() < self.settings["epsilon"]:
            return int(rng.choice(able))
        return super().pick(shopper, able, rng)


class LinUcb:
    """LinUCB with one ridge regression for all arms (Li, Chu, Langford, Schapire, WWW 2010), of the arm's department,
    price and itself, and whether the department is the shopper's; `alpha` deviations above the mean."""

    def __init__(self, shop: World, settings: Settings) -> None:
        self._shop, self._alpha = shop, settings["alpha"]
        size = shop.features.shape[1] + 2
        self._inverse, self._sums = np.eye(size), np.zeros(size)

    def _of(self, shopper: int, arms: Ints) -> Floats:
        features = self._shop.features[arms]
        told = self._shop.tells[shopper]
        own = features[:, : len(told)] @ told
        return np.concatenate([features, own[:, None], np.ones((len(arms), 1))], axis=1)

    def pick(self, shopper: int, able: Ints, rng: np.random.Generator) -> int:
        """The arm of the highest bound."""
        x = self._of(shopper, able)
        bound = x @ (self._inverse @ self._sums) + self._alpha * np.sqrt(((x @ self._inverse) * x).sum(axis=1))
        return int(rng.choice(able[bound >= bound.max() - 1e-12]))

    def hear(self, shopper: Ints, arm: Ints, clicked: Bools) -> None:
        """Of a batch of impressions, one after the other (Sherman and Morrison 1950)."""
        for who, which, click in zip(shopper.tolist(), arm.tolist(), clicked.tolist(), strict=True):
            x = self._of(who, np.array([which]))[0]
            step = self._inverse @ x
            self._inverse -= np.outer(step, step) / (1 + x @ step)
            self._sums += click * x


Maker = Callable[[World, Settings], System]
OURS = "souk"
STRENGTHS: tuple[Settings, ...] = tuple({"strength": one} for one in (60.0, 20.0, 30.0, 40.0))
SYSTEMS: dict[str, tuple[Maker, tuple[Settings, ...]]] = {
    OURS: (Thompson, STRENGTHS),
    "souk without content": (WithoutContent, STRENGTHS),
    "epsilon-greedy": (EpsilonGreedy, tuple({"epsilon": one, "usual": 0.05} for one in (0.1, 0.02, 0.05, 0.2))),
    "LinUCB": (LinUcb, tuple({"alpha": one} for one in (0.3, 0.03, 0.1, 1.0))),
    "pure exploitation": (Greedy, tuple({"usual": one} for one in (0.05, 0.02, 0.1, 0.2))),
}


@dataclass(frozen=True)
class Played:
    """What came of one system on one shop."""

    regret: Floats
    """Clicks lost so far against the arm that is best for all shoppers of whom the same is known: (t,)."""
    until_hot: Floats
    """Impressions of the place until each good item was HOT; all of them where it never was: (good,)."""


def play(shop: World, system: Maker, settings: Settings, seed: int) -> Played:
    """All impressions of a shop. The same seed draws the same clicks for the same showings."""
    rng = np.random.default_rng([seed, 2])
    luck = np.random.default_rng([seed, 3]).random((len(shop.shopper), shop.chance.shape[1]))
    player = system(shop, settings)
    t = len(shop.shopper)
    arms = np.zeros(t, np.int64)
    for begin in range(0, t, _BATCH):
        rows = np.arange(begin, min(begin + _BATCH, t))
        for row in rows.tolist():
            arms[row] = player.pick(int(shop.shopper[row]), shop.able[row], rng)
        who = shop.shopper[rows]
        player.hear(who, arms[rows], luck[rows, arms[rows]] < shop.chance[who, arms[rows]])
    chance = shop.chance[shop.shopper]
    worth = shop.worth[shop.shopper]
    best = np.array([worth[row, able].max() for row, able in enumerate(shop.able)])
    clicked = luck[np.arange(t), arms] < chance[np.arange(t), arms]
    until = []
    for item in shop.good.tolist():
        times = np.flatnonzero(clicked & (arms == item))
        until.append(float(times[HOT_CLICKS - 1] + 1 if len(times) >= HOT_CLICKS else t))
    return Played(np.cumsum(best - worth[np.arange(t), arms]), np.array(until))


@dataclass(frozen=True)
class Results:
    """By system: the settings chosen, and what came of them a seed."""

    chosen: dict[str, Settings]
    tuning: dict[str, list[float]]
    """Mean regret of each of the settings on the seeds for tuning."""
    played: dict[str, list[Played]]


def evaluate_bandit(
    seeds: Sequence[int], impressions: int, told: Callable[[str], None], advanced: Callable[[int, int], None]
) -> Results:
    """Every system on the shops of the seeds, with the settings that lost least on as many tuning shops of other
    seeds (1,000 higher), at most three. Raises ValueError for fewer than 100 impressions."""
    if impressions < 100:
        raise ValueError(f"impressions: {impressions}; it must be 100 or more")
    results = Results({}, {}, {})
    tuning = [draw_world(seed + 1_000, impressions) for seed in list(seeds)[:3]]
    shops = [draw_world(seed, impressions) for seed in seeds]
    done, total = 0, len(SYSTEMS) * (TRIALS * len(tuning) + len(shops))
    for name, (system, trials) in SYSTEMS.items():
        told(name)
        tried = []
        for settings in trials:
            lost = []
            for number, shop in enumerate(tuning):
                lost.append(float(play(shop, system, settings, number).regret[-1]))
                done += 1
                advanced(done, total)
            tried.append(float(np.mean(lost)))
        results.tuning[name] = tried
        results.chosen[name] = trials[int(np.argmin(tried))]
        results.played[name] = []
        for seed, shop in zip(seeds, shops, strict=True):
            results.played[name].append(play(shop, system, results.chosen[name], seed))
            done += 1
            advanced(done, total)
    return results
