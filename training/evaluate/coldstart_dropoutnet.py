"""DropoutNet (Volkovs, Yu, Poutanen 2017), the baseline: two towers over preferences and content that learn to do
without the preferences.

Preferences are those of implicit matrix factorisation (Hu, Koren, Volinsky 2008), as in the paper. The towers learn to
give the factors' dot product back, while whole preference vectors of shoppers or items are set to zero or, of a
shopper, to the mean of the items met.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from services.domain.neighbours import latest
from souk.vectors import Float32
from training.evaluate.coldstart_baselines import Scores, Settings, Told
from training.evaluate.coldstart_moments import Asked
from training.ranker.log import Bools, Ints, Log

DROPOUTNET_TRIALS: tuple[Settings, ...] = (
    {"dropout": 0.5, "hidden": 128},
    {"dropout": 0.2, "hidden": 128},
    {"dropout": 0.8, "hidden": 128},
    {"dropout": 0.5, "hidden": 256},
)
_DIM, _ROUNDS, _PENALTY, _SURE = 32, 6, 1.0, 20.0
_SHOPPERS, _ITEMS, _RATE = 64, 128, 2e-3
_EPOCHS, _FEWEST_STEPS, _MOST_STEPS = 12, 150, 1500
_LATEST = 100
_PAIRS_AT_ONCE = 8192


@dataclass(frozen=True)
class Factors:
    """Preferences of shoppers (shoppers, 32) and items (items, 32); zeros of items that nobody liked."""

    shoppers: Float32
    items: Float32
    inner: Float32
    """items.T @ items plus the penalty, (32, 32)."""

    def fold_in(self, items: Ints) -> Float32:
        """The preferences that follow from items liked, (32,): one step of the factorisation."""
        own = self.items[items]
        left = self.inner + _SURE * own.T @ own
        found: Float32 = np.linalg.solve(left, (1 + _SURE) * own.sum(axis=0)).astype(np.float32)
        return found


class Towers(nn.Module):
    """Preferences and content of a shopper or an item -> (rows, 32)."""

    def __init__(self, content: int, hidden: int) -> None:
        super().__init__()
        self.towers = nn.ModuleDict(
            {
                side: nn.Sequential(
                    nn.Linear(_DIM + content, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(),
                    nn.Linear(hidden, _DIM),
                )
                for side in ("shopper", "item")
            }
        )  # fmt: skip

    def forward(self, side: str, preferences: Tensor, content: Tensor) -> Tensor:
        """One side's vectors."""
        found: Tensor = self.towers[side](torch.cat([preferences, content], dim=1))
        return found


def dropoutnet_scores(asked: Asked, told: Told, settings: Settings, seed: int) -> Scores:
    """Dot products of the towers; an unknown item and a shopper without history are told by what is left of them."""
    factors = factorise(asked.known, seed)
    content = told.facts.content
    size = max(float(np.sqrt((factors.items**2).sum(axis=1).mean())), 1e-12)
    model = train_towers(asked.known, factors, content, settings["dropout"], settings["hidden"], size, seed)
    with torch.inference_mode():
        table = model("item", torch.from_numpy(factors.items / size), torch.from_numpy(content)).numpy()

    def scores(number: int, history: slice) -> Float32:
        items, _ = latest(asked.log.item[history], _LATEST, 1.0)
        preferences = factors.fold_in(items) if len(items) else np.zeros(_DIM, np.float32)
        mean = content[items].mean(axis=0) if len(items) else np.zeros(content.shape[1], np.float32)
        with torch.inference_mode():
            vector = model("shopper", torch.from_numpy(preferences[None] / size), torch.from_numpy(mean[None]))
        found: Float32 = table @ vector.numpy()[0]
        return found

    return scores


def factorise(log: Log, seed: int) -> Factors:
    """Implicit matrix factorisation by alternating least squares: a liked item counts 1 with confidence 21, any other 0
    with confidence 1."""
    rows = log.liked
    n, m = len(log.item_ids), len(log.shopper_ids)
    pairs = np.unique(log.shopper[rows] * n + log.item[rows])
    shopper, item = pairs // n, pairs % n
    rng = np.random.default_rng(seed)
    items = (rng.standard_normal((n, _DIM)) * 0.1).astype(np.float32)
    items[np.bincount(item, minlength=n) == 0] = 0
    shoppers = np.zeros((m, _DIM), np.float32)
    by_item = np.argsort(item, kind="stable")
    for _ in range(_ROUNDS):
        shoppers = _solved(shopper, item, items, m)
        items = _solved(item[by_item], shopper[by_item], shoppers, n)
    return Factors(shoppers, items, _inner(items))


def train_towers(
    log: Log, factors: Factors, content: Float32, dropout: float, hidden: int, size: float, seed: int
) -> Towers:
    """12 times over the shoppers in steps of 64, 150 to 1,500 steps, with items of theirs and others: the mean square
    error of the dot product of the factors, these in units of the mean length of an item's, `size`."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = Towers(content.shape[1], hidden)
    optimiser = torch.optim.Adam(model.parameters(), lr=_RATE)
    item = log.item
    active = np.flatnonzero(np.diff(log.starts) > 0)
    steps = int(np.clip(_EPOCHS * len(active) // _SHOPPERS, _FEWEST_STEPS, _MOST_STEPS))
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, steps)
    known = np.flatnonzero(np.bincount(item[log.liked], minlength=len(content)) > 0)
    for _ in range(steps):
        some = rng.choice(active, min(_SHOPPERS, len(active)), replace=False)
        histories = [np.unique(item[log.starts[one] : log.starts[one + 1]][-_LATEST:]) for one in some.tolist()]
        liked = np.unique(np.concatenate([rng.choice(one, min(2, len(one)), replace=False) for one in histories]))
        items = np.union1d(liked, rng.choice(known, min(_ITEMS, len(known)), replace=False))
        wanted = torch.from_numpy(factors.shoppers[some] @ factors.items[items].T)
        preferences = factors.shoppers[some] / size
        dropped = _drawn(rng, len(some), dropout)
        # Half of those without preferences stand as the mean of what they met (section 3.3 of the paper).
        means = np.stack([factors.items[one].mean(axis=0) for one in histories]) / size
        turned = rng.random(len(some)) < 0.5
        preferences = np.where(dropped[:, None], np.where(turned[:, None], means, 0), preferences)
        of_items = np.where(_drawn(rng, len(items), dropout)[:, None], 0, factors.items[items] / size)
        of_shoppers = np.stack([content[one].mean(axis=0) for one in histories])
        said = (
            model("shopper", torch.from_numpy(preferences), torch.from_numpy(of_shoppers))
            @ model("item", torch.from_numpy(of_items), torch.from_numpy(content[items])).T
        )
        loss = (said - wanted).square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    return model.eval()


def _drawn(rng: np.random.Generator, n: int, chance: float) -> Bools:
    found: Bools = rng.random(n) < chance
    return found


def _solved(owner: Ints, other: Ints, table: Float32, n: int) -> Float32:
    """The factors of n owners, of pairs in their order, from those of the others; zeros where there is no pair."""
    out = np.zeros((n, _DIM), np.float32)
    inner = _inner(table)
    starts = np.searchsorted(owner, np.arange(n + 1))
    some = np.flatnonzero(np.diff(starts))
    begin = 0
    while begin < len(some):
        # As many owners as have so many pairs, one at least.
        end = max(begin + 1, int(np.searchsorted(starts[some + 1], starts[some[begin]] + _PAIRS_AT_ONCE, side="right")))
        part = some[begin:end]
        own = table[other[starts[part[0]] : starts[part[-1] + 1]]]
        at = starts[part] - starts[part[0]]
        squares = np.add.reduceat(own[:, :, None] * own[:, None, :], at, axis=0)
        sums = np.add.reduceat(own, at, axis=0)
        out[part] = np.linalg.solve(inner + _SURE * squares, (1 + _SURE) * sums[..., None])[..., 0]
        begin = end
    return out


def _inner(table: Float32) -> Float32:
    found: Float32 = table.T @ table + _PENALTY * np.eye(_DIM, dtype=np.float32)
    return found
