"""Trains the Transformer: softmax cross entropy over all items, or a large sample of very many, in a budget of time,
from checkpoints."""

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from souk.vectors import Float32
from training.checkpoint import keep_checkpoint, read_checkpoint
from training.ranker.config import RankerConfig
from training.ranker.examples import Batch, Examples, Histories, batches
from training.ranker.log import Floats, Ints, Log
from training.ranker.measures import Measured, measure
from training.ranker.model import Ranker

_WARM_UP_STEPS = 50
_MAX_NORM = 1.0
_SMALLEST_BATCH = 32


@dataclass(frozen=True)
class Epoch:
    """How an epoch ended; `ndcg` is NDCG@10 on the examples to choose by, NaN without any."""

    number: int
    loss: float
    ndcg: float
    seconds: float
    best: bool


@dataclass(frozen=True)
class Trained:
    """A model and the items that it knows: the log's number of each of its rows."""

    model: Ranker
    known: Ints
    ndcg: float
    epochs: int

    @property
    def max_history(self) -> int:
        """Latest events that the model reads."""
        return self.model.shopper.max_history

    def table(self, content: Float32) -> Float32:
        """Behaviour vectors of all items of the log: known ones as learned, others guessed from content, NaN where
        neither can be: (n, dim)."""
        items = self.model.items.eval()
        with torch.inference_mode():
            known = items().numpy()
            weight, bias = items.projection.weight.numpy(), items.projection.bias.numpy()
        out = content @ weight.T + bias
        out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)
        out[~content.any(axis=1)] = np.nan
        out[self.known] = known
        found: Float32 = out.astype(np.float32)
        return found

    def shoppers(self, table: Float32, batch: Histories) -> Float32:
        """Vectors of a batch's shoppers, (batch, dim). An item without a vector is left out of the history."""
        vectors = table[batch.items]
        has = ~np.isnan(vectors[..., 0])
        mask = batch.mask & has
        with torch.inference_mode():
            found: Float32 = (
                self.model.shopper.eval()(
                    torch.from_numpy(np.where(mask[..., None], vectors, 0).astype(np.float32)),
                    torch.from_numpy(batch.types),
                    torch.from_numpy(batch.gaps),
                    torch.from_numpy(mask),
                )
            ).numpy()
        return found


class Training:
    """One training run over examples of a log.

    `learn` and `choose` are numbers of examples; the best epoch on `choose` wins, without any the
    last. `until` is a time.monotonic(). `worth`: what it counts that an item is wanted, (items,); all alike where left
    out.
    Killed and made again with the same arguments it goes on after the last epoch that its checkpoint holds.
    """

    def __init__(
        self,
        log: Log,
        examples: Examples,
        learn: Ints,
        choose: Ints,
        content: Float32,
        config: RankerConfig,
        until: float,
        checkpoint: Path,
        told: Callable[[Epoch], None],
        before: Trained | None = None,
        worth: Floats | None = None,
    ) -> None:
        self._log, self._examples, self._learn, self._choose = log, examples, learn, choose
        self._content, self._config, self._until = content, config, until
        self._checkpoint, self._told, self._worth = checkpoint, told, worth
        torch.manual_seed(config.seed)
        self._known = _met(log, examples, learn)
        self._row = np.zeros(len(log.item_ids), np.int64)
        self._row[self._known] = np.arange(len(self._known))
        self._model = Ranker(config, torch.from_numpy(content[self._known]))
        if before is not None:
            self._go_on(before)
        self._optimiser = torch.optim.AdamW(
            self._model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.98)
        )
        self._epoch, self._step, self._stale, self._spent = 0, 0, 0, 0.0
        self._best_ndcg, self._best = -1.0, {key: value.clone() for key, value in self._model.state_dict().items()}
        self._identity = _identity(config, examples, learn, self._known)
        self._restore()

    def run(self) -> Trained:
        """Trains until the time is over, no epoch gets better, or all epochs are done."""
        config = self._config
        started = time.monotonic() - self._spent
        longest = 0.0
        while self._epoch < config.epochs and self._stale < config.patience:
            clock = time.monotonic()
            if self._epoch and clock + longest > self._until:
                break
            loss = self._train_epoch(started)
            ndcg = self._ndcg()
            better = ndcg > self._best_ndcg or not len(self._choose)
            if better:
                self._best_ndcg = ndcg
                self._best = {key: value.clone() for key, value in self._model.state_dict().items()}
            self._stale = 0 if better else self._stale + 1
            self._epoch += 1
            seconds = time.monotonic() - clock
            longest = max(longest, seconds)
            self._spent = time.monotonic() - started
            self._keep()
            self._told(Epoch(self._epoch, loss, ndcg, seconds, better))
        self._model.load_state_dict(self._best)
        return Trained(self._model, self._known, self._best_ndcg, self._epoch)

    def _train_epoch(self, started: float) -> float:
        config = self._config
        rng = np.random.default_rng([config.seed, self._epoch])
        torch.manual_seed(config.seed * 1_000_003 + self._epoch)
        size = min(len(self._learn), config.examples_an_epoch)
        chosen = rng.choice(self._learn, size, replace=False)
        # A small log is learned in smaller steps, or there would be few of them.
        batch_size = max(_SMALLEST_BATCH, min(config.batch, size // 100))
        steps = math.ceil(size / batch_size)
        total, learned = 0.0, 0
        self._model.train()
        for number, (part, batch) in enumerate(
            batches(self._log, self._examples, chosen, batch_size, config.max_history, rng)
        ):
            now = time.monotonic()
            if now > self._until and number:
                break
            # The rate falls to nothing as time or epochs run out, whichever is first.
            done = max(self._step / (steps * config.epochs), (now - started) / max(self._until - started, 1e-9))
            rate = config.learning_rate * min(1.0, (self._step + 1) / _WARM_UP_STEPS) * max(0.02, 1 - done)
            for group in self._optimiser.param_groups:
                group["lr"] = rate
            loss = self._loss(batch, rng)
            self._optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), _MAX_NORM)
            self._optimiser.step()
            self._step += 1
            total += loss.item() * len(part)
            learned += len(part)
        return total / max(learned, 1)

    def _loss(self, batch: Batch, rng: np.random.Generator) -> Tensor:
        """Cross entropy of what is wanted next. Of more than most_items items a uniform sample stands for all, each of
        its items for n / most_items (sampled softmax with logQ correction, Bengio and Senecal 2008)."""
        met, wanted = self._row[batch.items], self._row[batch.columns]
        n, most = len(self._known), self._config.most_items
        correction = None
        if n > most:
            drawn = rng.choice(n, most, replace=False)
            rows_of = np.unique(np.concatenate([drawn, met.ravel(), wanted]))
            weight = np.full(len(rows_of), -np.inf, np.float32)
            weight[np.searchsorted(rows_of, drawn)] = math.log(n / most)
            correction = torch.from_numpy(weight)
            met, wanted = np.searchsorted(rows_of, met), np.searchsorted(rows_of, wanted)
            table = self._model.items(self._config.id_dropout, torch.from_numpy(rows_of))
        else:
            table = self._model.items(self._config.id_dropout)
        history = F.embedding(torch.from_numpy(met), table)
        shoppers = self._model.shopper(
            history, torch.from_numpy(batch.types), torch.from_numpy(batch.gaps), torch.from_numpy(batch.mask)
        )
        logits = self._model.scale() * shoppers @ table.T
        rows, columns = torch.from_numpy(batch.rows), torch.from_numpy(wanted)
        worth = 1.0 if self._worth is None else self._worth[batch.columns]
        weights = torch.from_numpy((batch.weights * worth).astype(np.float32))
        own = logits[rows, columns]
        said = (own * weights).sum()
        if correction is not None:
            # What is wanted stands for itself; what was only met or wanted by others, for nothing.
            logits = (logits + correction).index_put((rows, columns), own)
        every = torch.logsumexp(logits, dim=1)
        if self._worth is not None:
            every = every * torch.bincount(rows, weights, len(logits))
        found: Tensor = (every.sum() - said) / len(logits)
        return found

    def _ndcg(self) -> float:
        if not len(self._choose):
            return math.nan
        trained = Trained(self._model, self._known, 0, 0)
        return float(affinity_measures(trained, self._log, self._examples, self._choose, self._content).ndcg.mean())

    def _go_on(self, before: Trained) -> None:
        """Takes over what was learned; items new since begin with what their content says."""
        state = before.model.state_dict()
        ids = torch.zeros(len(self._log.item_ids), self._config.dim)
        ids[torch.from_numpy(before.known)] = state["items.ids"]
        self._model.load_state_dict({**state, "items.ids": ids[torch.from_numpy(self._known)]})

    def _keep(self) -> None:
        keep_checkpoint(
            self._checkpoint,
            {
                "identity": self._identity,
                "model": self._model.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "best": self._best,
                "numbers": (self._epoch, self._step, self._stale, self._spent, self._best_ndcg),
            },
        )

    def _restore(self) -> None:
        state = read_checkpoint(self._checkpoint)
        if state is None or state["identity"] != self._identity:
            return
        self._model.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._best = state["best"]
        self._epoch, self._step, self._stale, self._spent, self._best_ndcg = state["numbers"]


def affinity_measures(trained: Trained, log: Log, examples: Examples, chosen: Ints, content: Float32) -> Measured:
    """How well affinity alone ranks all items for the chosen examples, in their order of length."""
    config_batch, max_history = 512, trained.max_history
    table = trained.table(content)
    parts = []
    for _, batch in batches(log, examples, chosen, config_batch, max_history, None):
        scores = trained.shoppers(table, batch) @ np.nan_to_num(table).T
        scores[:, np.isnan(table[:, 0])] = np.nan
        parts.append(measure(scores, batch.rows, batch.columns))
    return Measured.joined(parts)


def _met(log: Log, examples: Examples, learn: Ints) -> Ints:
    """Items that the examples hold, in a history or wanted."""
    met = np.zeros(len(log.item_ids), bool)
    met[examples.take(learn).items] = True
    # A shopper's histories all begin at one row: the longest holds the others.
    longest = np.zeros(len(log.item) + 1, np.int64)
    np.maximum.at(longest, examples.begin[learn], examples.end[learn])
    for begin in np.flatnonzero(longest):
        met[log.item[begin : longest[begin]]] = True
    return np.flatnonzero(met)


def _identity(config: RankerConfig, examples: Examples, learn: Ints, known: Ints) -> str:
    """What a checkpoint must have been made of; minutes and what the heads learn may differ."""
    facts = {**asdict(config), "minutes": 0, "objective": ""}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for array in (examples.end, examples.items, learn, known):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
