"""A baseline: SASRec (Kang and McAuley 2018) by full-softmax cross entropy (Klenitskiy and Vasilev 2023).

Ids only: item embeddings scaled by sqrt(dim), learned positions, blocks of causal attention and a pointwise network,
and the dot product with the same embeddings. None of the ranker's features, times or contents.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from souk.vectors import Float32
from training.evaluate.ranking import Moment, Scores, judge
from training.ranker.log import Ints, Log

_WARM_UP_STEPS = 50
# Rows that an epoch reads at most, so that the validation is asked now and then in a large log too.
_EPOCH_ROWS = 200_000
# Logits of a step, at most, and moments whose logits are worked out at once: a tile stays in the processor's cache.
_LOGITS, _TILE = 2**24, 512


@dataclass(frozen=True)
class SasrecConfig:
    """Settings as the papers have them, but for `next_session`.

    next_session: where a session ends, all items of the next one are what comes next, each alike; else every event is
    asked for the one event behind it. Without it, a shop of large baskets has the model learn the order within them.
    """

    dim: int = 64
    layers: int = 2
    heads: int = 2
    dropout: float = 0.2
    max_history: int = 50
    learning_rate: float = 1e-3
    batch: int = 32
    epochs: int = 40
    patience: int = 4
    next_session: bool = False


@dataclass(frozen=True)
class Steps:
    """How long a training was: it stopped, or was best, after `taken`, and its rate would have ended at `planned`."""

    taken: int
    planned: int


class Sasrec(nn.Module):
    """Histories of items to vectors that are multiplied with those of all n items."""

    def __init__(self, n: int, config: SasrecConfig) -> None:
        super().__init__()
        self.dim, self.max_history = config.dim, config.max_history
        self.items = nn.Embedding(n, config.dim)
        self.places = nn.Embedding(config.max_history, config.dim)
        for table in (self.items, self.places):
            nn.init.normal_(table.weight, std=0.02)
        self.dropout = nn.Dropout(config.dropout)
        layer = nn.TransformerEncoderLayer(
            config.dim, config.heads, config.dim, config.dropout, "relu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, config.layers, nn.LayerNorm(config.dim), enable_nested_tensor=False)

    def forward(self, items: Tensor, sizes: Tensor) -> Tensor:
        """items int64 (batch, length), oldest first, padded on the right; sizes (batch,) -> (batch, length, dim).

        A place is counted from the newest, as in a row padded on the left; what is behind a place it does not see.
        """
        length = items.shape[1]
        place = (sizes[:, None] - 1 - torch.arange(length)).clamp(min=0)
        x = self.dropout(self.items(items) * math.sqrt(self.dim) + self.places(place))
        later = torch.ones(length, length, dtype=torch.bool).triu(1)
        out: Tensor = self.blocks(x, mask=later)
        return out


def fit_sasrec(
    log: Log, config: SasrecConfig, seed: int, until: float, ndcg: Callable[[Sasrec], float]
) -> tuple[Sasrec, Steps]:
    """The epoch with the best `ndcg` of at most config.epochs, until no epoch gets better or time.monotonic() `until`.

    The rate falls to nothing with the epochs or the time, whichever ends first.
    """
    training = _Training(log, config, seed)
    started, best, stale = time.monotonic(), -1.0, 0
    state = training.model.state_dict()
    taken, planned = 0, training.steps_an_epoch * config.epochs

    def done() -> float:
        return max(training.step / planned, (time.monotonic() - started) / max(until - started, 1e-9))

    for _ in range(config.epochs):
        training.epoch(done)
        reached = ndcg(training.model)
        stale = 0 if reached > best else stale + 1
        if reached > best:
            best, taken = reached, training.step
            state = {name: value.clone() for name, value in training.model.state_dict().items()}
        share = done()
        if stale >= config.patience or share >= 1:
            break
    training.model.load_state_dict(state)
    return training.model, Steps(taken, max(taken, round(training.step / min(1.0, share))))


def refit_sasrec(log: Log, config: SasrecConfig, seed: int, steps: Steps) -> Sasrec:
    """Trains as long, with the same rates, as was found best: on a log that holds what it was found on, too."""
    training = _Training(log, config, seed)
    while training.step < steps.taken:
        training.epoch(lambda: training.step / steps.planned, steps.taken)
    return training.model


def sasrec_scores(log: Log, moment: Moment, model: Sasrec) -> Scores:
    """The dot products. A shopper who never liked anything is given what most events before speak for."""
    popular = np.bincount(log.item[moment.seen & log.liked], minlength=len(log.item_ids)).astype(np.float32)
    table = model.items.weight.detach().numpy()
    examples = moment.examples

    def scores(number: int) -> Float32:
        rows = slice(examples.begin[number], examples.end[number])
        history = log.item[rows][log.liked[rows]][-model.max_history :]
        if not len(history):
            return popular
        with torch.inference_mode():
            out = model.eval()(torch.from_numpy(history[None]), torch.tensor([len(history)]))
        found: Float32 = table @ out[0, -1].numpy()
        return found

    return scores


def sasrec_ndcg(log: Log, moment: Moment) -> Callable[[Sasrec], float]:
    """What `fit_sasrec` chooses by: NDCG@10 of the moment's examples."""
    return lambda model: float(judge(moment, log, sasrec_scores(log, moment, model)).ndcg.mean())


class _Training:
    """Steps over windows of histories. Rows are those of the events that speak for their item."""

    def __init__(self, log: Log, config: SasrecConfig, seed: int) -> None:
        self._config, self._rng = config, np.random.default_rng(seed)
        torch.manual_seed(seed)
        self.model = Sasrec(len(log.item_ids), config)
        self._optimiser = torch.optim.Adam(self.model.parameters(), config.learning_rate, betas=(0.9, 0.98))
        liked = log.liked
        self._items = log.item[liked]
        self._ends = next_ends(log.shopper[liked], log.session[liked], config.next_session)
        self._bounds = np.append(np.unique(log.shopper[liked], return_index=True)[1], len(self._items))
        self.steps_an_epoch = len(self._batches())
        self.step = 0

    def epoch(self, done: Callable[[], float], last: int | None = None) -> None:
        """Until the windows of an epoch are learned, `done` is 1, or `last` steps are made in all; at least a step."""
        self.model.train()
        for begins, sizes in self._batches():
            share = done()
            if self.step and (share >= 1 or self.step == last):
                return
            rate = self._config.learning_rate * min(1.0, (self.step + 1) / _WARM_UP_STEPS) * max(0.02, 1 - share)
            for group in self._optimiser.param_groups:
                group["lr"] = rate
            self._optimiser.zero_grad(set_to_none=True)
            self._loss(begins, sizes).backward()  # type: ignore[no-untyped-call]
            self._optimiser.step()
            self.step += 1

    def _batches(self) -> list[tuple[Ints, Ints]]:
        """Where the windows of each step begin and how long they are: of like length, shuffled.

        A longer history is cut anew each time, counted from a place drawn by chance.
        """
        most = self._config.max_history
        begins, sizes = [], []
        for begin, end in zip(self._bounds[:-1].tolist(), self._bounds[1:].tolist(), strict=True):
            first = int(self._rng.integers(1, most + 1)) if end - begin > most else end - begin
            cuts = np.append(np.arange(begin + first, end, most), end)
            begins.append(np.append(begin, cuts[:-1]))
            sizes.append(np.diff(cuts, prepend=begin))
        begin, size = np.concatenate(begins), np.concatenate(sizes)
        asked = np.concatenate([[0], np.cumsum(self._ends > np.arange(1, len(self._ends) + 1))])
        questions = asked[begin + size] - asked[begin]
        order = self._rng.permutation(np.flatnonzero(questions))
        order = order[np.cumsum(size[order]) - size[order] < _EPOCH_ROWS]
        order = order[np.argsort(size[order], kind="stable")]
        # A step ends where its windows or its logits would be too many.
        most_questions = max(1, _LOGITS // (int(self._items.max()) + 1))
        parts: list[list[int]] = [[]]
        held = 0
        for number in order.tolist():
            if len(parts[-1]) == self._config.batch or (parts[-1] and held + questions[number] > most_questions):
                parts.append([])
                held = 0
            parts[-1].append(number)
            held += questions[number]
        self._rng.shuffle(parts)
        return [(begin[part], size[part]) for part in parts if part]

    def _loss(self, begins: Ints, sizes: Ints) -> Tensor:
        places = np.arange(sizes.max())
        there = places < sizes[:, None]
        rows = np.where(there, begins[:, None] + places, 0)
        out = self.model(torch.from_numpy(np.where(there, self._items[rows], 0)), torch.from_numpy(sizes))
        asked = there & (self._ends[rows] > rows + 1)
        at = rows[asked]
        counts = self._ends[at] - at - 1
        number = np.repeat(np.arange(len(at)), counts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        wanted = torch.from_numpy(self._items[np.repeat(at + 1, counts) + within])
        moments, table = out[torch.from_numpy(asked)], self.model.items.weight
        sums = [torch.logsumexp(part @ table.T, dim=1).sum() for part in moments.split(_TILE)]
        said = (moments[torch.from_numpy(number)] * table[wanted]).sum(dim=1) / torch.from_numpy(counts[number])
        loss: Tensor = (torch.stack(sums).sum() - said.sum()) / len(at)
        return loss


def next_ends(shopper: Ints, session: Ints, next_session: bool) -> Ints:
    """Of rows in order: what row r is asked for are the rows r + 1 to ends[r]; none where that is r + 1. (n,)."""
    rows = np.arange(len(shopper))
    ends = rows + 1
    follows = np.flatnonzero(shopper[1:] == shopper[:-1])
    if not next_session:
        ends[follows] += 1
        return ends
    last = follows[session[follows + 1] != session[follows]]
    ends[last] = np.searchsorted(session, session[last + 1], "right")
    return ends
