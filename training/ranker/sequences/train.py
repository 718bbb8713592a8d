"""Trains items and Transformer: full-ranking cross entropy at every place of a history, from a checkpoint an epoch."""

import ctypes
import hashlib
import json
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
from training.ranker.log import Ints
from training.ranker.sequences.config import SequencesConfig
from training.ranker.sequences.files import Sequences
from training.ranker.sequences.judging import measures, ranks_of
from training.ranker.sequences.model import Facts, SequenceRanker
from training.ranker.sequences.packing import NOTHING, Windows, pack
from training.ranker.sequences.softmax import log_sum

_WARM_UP_STEPS = 100
_MAX_NORM = 5.0


@dataclass(frozen=True)
class Epoch:
    """How an epoch ended: mean loss, and NDCG@10 of the averaged weights on some of the validation."""

    number: int
    loss: float
    ndcg: float
    seconds: float
    best: bool


class Training:
    """The state between epochs, kept in a checkpoint: made again with the same arguments it goes on from there."""

    def __init__(
        self,
        sequences: Sequences,
        facts: Facts,
        config: SequencesConfig,
        checkpoint: Path,
        told: Callable[[Epoch], None],
    ) -> None:
        self._sequences, self._config, self._checkpoint, self._told = sequences, config, checkpoint, told
        torch.manual_seed(config.seed)
        self._model = SequenceRanker(config, facts)
        self._mean = SequenceRanker(config, facts)
        self._mean.load_state_dict(self._model.state_dict())
        self._optimiser = torch.optim.Adam(self._model.parameters(), lr=config.learning_rate, fused=True)
        self._windows = Windows.of(sequences, config.max_history)
        self._choose = choosers(sequences, config)
        self._masked = not sequences.repeats()
        self._epoch, self._step, self._stale, self._spent = 0, 0, 0, 0.0
        self._best_ndcg, self._best = -1.0, _copy(self._mean)
        self._identity = _identity(sequences, facts, config)
        self._restore()

    def run(self) -> SequenceRanker:
        """Trains until all epochs are done or none got better for a while; the averaged weights that were best."""
        config = self._config
        while self._epoch < config.epochs and self._stale < config.patience:
            clock = time.monotonic()
            loss = self._train_epoch()
            ndcg = self._ndcg()
            better = ndcg > self._best_ndcg
            if better:
                self._best_ndcg, self._best = ndcg, _copy(self._mean)
            self._stale = 0 if better else self._stale + 1
            self._epoch += 1
            self._spent += time.monotonic() - clock
            self._keep()
            self._told(Epoch(self._epoch, loss, ndcg, time.monotonic() - clock, better))
        self._mean.load_state_dict(self._best)
        return self._mean.eval()

    @property
    def epochs(self) -> int:
        """How many are done."""
        return self._epoch

    @property
    def ndcg(self) -> float:
        """NDCG@10 of the best epoch on the validation."""
        return self._best_ndcg

    @property
    def spent(self) -> float:
        """Seconds of all epochs, those before an interruption too."""
        return self._spent

    def _train_epoch(self) -> float:
        config = self._config
        rng = np.random.default_rng([config.seed, self._epoch])
        torch.manual_seed(config.seed * 1_000_003 + self._epoch)
        steps = self._windows.steps(config.places, rng)
        total = 0.0
        self._model.train()
        for windows in steps:
            done = self._step / (len(steps) * config.epochs)
            rate = config.learning_rate * min(1.0, (self._step + 1) / _WARM_UP_STEPS) * max(0.02, 1 - done)
            for group in self._optimiser.param_groups:
                group["lr"] = rate
            loss = self._loss(windows, rng)
            self._optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), _MAX_NORM)
            self._optimiser.step()
            self._step += 1
            self._average()
            total += loss.item()
        return total / len(steps)

    def _loss(self, windows: Ints, rng: np.random.Generator) -> Tensor:
        config, item = self._config, self._sequences.item
        packed = pack(self._windows.begin[windows], self._windows.end[windows], config.max_history)
        there = packed.event != NOTHING
        event = packed.event[there]
        table = self._model.items()
        history = F.embedding(torch.from_numpy(np.where(there, item[packed.event], 0)), table)
        places = self._model.shopper.places(history, *map(torch.from_numpy, (packed.segment, packed.number)))
        shoppers = places[torch.from_numpy(there)]
        right, n = item[event + 1], len(table)
        own = (shoppers * F.embedding(torch.from_numpy(right), table)).sum(dim=1)
        if n <= config.most_items:
            columns, factor, others = np.arange(n), 1.0, table
        else:
            columns = np.sort(rng.choice(n, config.most_items, replace=False))
            factor, others = n / config.most_items, table[torch.from_numpy(columns)]
        column_of = np.full(n, NOTHING)
        column_of[columns] = np.arange(len(columns))
        return log_sum(shoppers, own, others, factor, column_of[right]) - own.mean()

    def _average(self) -> None:
        """The averaged weights follow those that learn, at first closely."""
        kept = min(self._config.average, 1 - 10 / (self._step + 10))
        with torch.no_grad():
            for mean, now in zip(self._mean.parameters(), self._model.parameters(), strict=True):
                mean.lerp_(now, 1 - kept)

    def _ndcg(self) -> float:
        model = self._mean.eval()
        with torch.inference_mode():
            table = model.items()

            def scores(histories: list[Ints]) -> Float32:
                latest = [history[-self._config.max_history :] for history in histories]
                starts = np.cumsum([0] + [len(history) for history in latest])
                packed = pack(starts[:-1], starts[1:], self._config.max_history)
                items = np.concatenate(latest)
                vectors = F.embedding(
                    torch.from_numpy(np.where(packed.event == NOTHING, 0, items[packed.event])), table
                )
                places = model.shopper.places(vectors, *map(torch.from_numpy, (packed.segment, packed.number)))
                last = np.flatnonzero(np.isin(packed.event, starts[1:] - 1))
                found: Float32 = (places.reshape(-1, table.shape[1])[torch.from_numpy(last)] @ table.T).numpy()
                return found

            return measures(ranks_of(self._sequences, 2, self._choose, scores, self._masked))["ndcg@10"]

    def _keep(self) -> None:
        keep_checkpoint(
            self._checkpoint,
            {
                "identity": self._identity,
                "model": self._model.state_dict(),
                "mean": self._mean.state_dict(),
                "best": self._best,
                "optimiser": self._optimiser.state_dict(),
                "numbers": (self._epoch, self._step, self._stale, self._spent, self._best_ndcg),
            },
        )

    def _restore(self) -> None:
        state = read_checkpoint(self._checkpoint)
        if state is None or state["identity"] != self._identity:
            return
        self._model.load_state_dict(state["model"])
        self._mean.load_state_dict(state["mean"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._best = state["best"]
        self._epoch, self._step, self._stale, self._spent, self._best_ndcg = state["numbers"]


def choosers(sequences: Sequences, config: SequencesConfig) -> Ints:
    """Shoppers by whose validation everything is chosen. They are numbered at random: the first are any."""
    return np.arange(min(sequences.shoppers, config.validation_shoppers))


def keep_freed_memory() -> None:
    """Tells glibc to keep what is freed: a step takes and frees tens of megabytes, and the kernel's handing out of
    fresh pages took half of the time (measured). Elsewhere it does nothing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        m_trim_threshold, m_mmap_threshold = -1, -3
        mallopt(m_mmap_threshold, 1 << 30)
        mallopt(m_trim_threshold, 2**31 - 1)


def _copy(model: SequenceRanker) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def _identity(sequences: Sequences, facts: Facts, config: SequencesConfig) -> str:
    """What a checkpoint must have been made of."""
    digest = hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode())
    digest.update(sequences.item.tobytes() + sequences.starts.tobytes())
    digest.update(facts.vectors.numpy().tobytes())
    if facts.bags is not None:
        bags = facts.bags.coalesce()
        digest.update(bags.indices().numpy().tobytes() + bags.values().numpy().tobytes())
    return digest.hexdigest()
