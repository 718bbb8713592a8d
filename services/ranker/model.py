"""The two networks of a bundle, a shopper's events -> a vector and features -> probabilities, and its signals."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.domain.ages import gap_buckets
from services.domain.bundle import RankerManifest
from services.domain.features import FEATURES, LIKED
from services.domain.signals import SIGNALS
from services.ranker.signals import ItemSignals
from services.runtime.onnx import Session, SessionLost
from souk.coldstart.v1 import coldstart_pb2
from souk.vectors import Float32

# As the release gate of a bundle has it: a candidate alone and among others.
_MOST_DIFFERENT = 1e-5
_WARM_UP_ROWS = 64
# Outputs of the heads that bundles made before them lack.
_LOG_ODDS, _DEVIATION = "logit", "deviation"


@dataclass(frozen=True)
class History:
    """`length` events as the shopper network reads them, oldest first."""

    items: Float32
    """Behaviour vectors: (length, dim)."""
    types: NDArray[np.int64]
    """EventType numbers: (length,)."""
    gaps: NDArray[np.int64]
    """Bucket 0 to 15 of log2(1 + hours from the event to now), 0 where the time is not known: (length,)."""

    @classmethod
    def of(
        cls,
        entries: list[coldstart_pb2.HistoryEntry],
        vectors: Float32,
        present: NDArray[np.bool_],
        longest: int,
        now: float,
    ) -> "History":
        """The latest events whose items have vectors (n, dim), at most `longest`. `now` in seconds since 1970."""
        rows = np.flatnonzero(present)[-longest:]
        times = np.array([entries[row].time_ms for row in rows], np.float64)
        gaps = gap_buckets(now - times / 1000)
        types = np.array([entries[row].type for row in rows], np.int64)
        return cls(vectors[rows], types, np.where(times > 0, gaps, 0))

    def __len__(self) -> int:
        return len(self.types)


class Model:
    """The networks of one bundle; its methods may be called from several threads at once.

    Raises ValueError where they read or give something else than the manifest says, ProviderError where the provider
    cannot run here, and what ONNX Runtime raises for files that are not models.
    """

    def __init__(self, bundle: Path, manifest: RankerManifest, provider: str) -> None:
        self.signals = None if manifest.signals is None else ItemSignals.open(bundle, manifest.items, manifest.signals)
        self.columns = FEATURES if self.signals is None else (*FEATURES, *SIGNALS)
        """What the columns of `probabilities` are."""
        if unknown := [name for name in manifest.features if name not in self.columns]:
            raise ValueError(f"features: {', '.join(unknown)} are not known to this version of Souk")
        self.dim = manifest.dim
        self.max_history = manifest.max_history
        self.provider = provider
        self._objectives = len(manifest.objectives)
        self._columns = np.array([self.columns.index(name) for name in manifest.features], np.int64)
        self._shopper = Session(bundle / manifest.shopper_model, provider)
        self._heads = Session(bundle / manifest.heads_model, provider)
        if missing := {"items", "mask"} - self._shopper.inputs:
            raise ValueError(f"{manifest.shopper_model}: the shopper's network has no input {', '.join(missing)}")
        self._lost: SessionLost | None = None
        self._probe()
        self._linear = self._read_linear()

    def history(
        self, entries: list[coldstart_pb2.HistoryEntry], vectors: Float32, present: NDArray[np.bool_], now: float
    ) -> History:
        """As History.of; a network that is not told what an event was reads those that speak for their items."""
        if "types" not in self._shopper.inputs:
            present = present & np.array([entry.type in LIKED for entry in entries], np.bool_)
        return History.of(entries, vectors, present, self.max_history, now)

    def shopper(self, history: History) -> Float32:
        """The shopper's vector: (dim,). The history holds at least one event."""
        inputs: dict[str, NDArray[Any]] = {
            "items": history.items[None],
            "types": history.types[None],
            "gaps": history.gaps[None],
            "mask": np.ones((1, len(history)), np.bool_),
        }
        vector = self._run(self._shopper, "shopper", self._read(inputs))
        if vector.shape != (1, self.dim):
            raise RuntimeError(f"shopper: the model gave {vector.shape} for one shopper of {self.dim} dimensions")
        alone: Float32 = vector[0]
        return alone

    def probabilities(self, features: Float32) -> Float32:
        """Of each objective, for features (n, len(columns)): (n, objectives), each row from its own features alone."""
        probability = self._run(self._heads, "probability", {"features": features.take(self._columns, axis=1)})
        if probability.shape != (len(features), self._objectives):
            raise RuntimeError(f"probability: the model gave {probability.shape} for {len(features)} candidates")
        if probability.min() < 0 or probability.max() > 1:
            raise RuntimeError("probability: the model gave a number that is not from 0 to 1")
        return probability

    def deviations(self, features: Float32) -> Float32 | None:
        """Standard deviation of the log-odds of each objective, for features (n, len(columns)): (n, objectives), each
        row from its own features alone. None where the heads do not say."""
        if _DEVIATION not in self._heads.outputs:
            return None
        return self._run(self._heads, _DEVIATION, {"features": features.take(self._columns, axis=1)})

    def parts(self, features: Float32) -> Float32 | None:
        """What each of the features, and last a bias, adds to the log-odds of each objective, for features
        (n, len(columns)): (n, len(columns) + 1, objectives), which sum to the log-odds of `probabilities`. None where
        the heads do not say, or are not linear in their features."""
        if self._linear is None:
            return None
        with_bias = np.append(features, np.ones((len(features), 1), np.float32), axis=1)
        added: Float32 = with_bias[:, :, None] * self._linear
        return added

    def check(self) -> None:
        """Raises when a network no longer answers anything."""
        if self._lost is not None:
            raise self._lost

    def _read(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Those inputs that the shopper's network has."""
        return {name: value for name, value in inputs.items() if name in self._shopper.inputs}

    def _run(self, session: Session, output: str, inputs: dict[str, NDArray[Any]]) -> Float32:
        try:
            (value,) = session.run([output], inputs)
        except Exception as error:
            try:
                self._probe()
            except Exception:
                self._lost = SessionLost(f"the model no longer answers: {error}")
                raise self._lost from error
            raise
        return value

    def _read_linear(self) -> Float32 | None:
        """Weights and, last, bias: (len(columns) + 1, objectives), read off the log-odds of unit vectors."""
        if _LOG_ODDS not in self._heads.outputs:
            return None
        n = len(self._columns)
        some = np.random.default_rng(1).random((1, n), np.float32)
        rows = np.concatenate((np.zeros((1, n), np.float32), np.eye(n, dtype=np.float32), some))
        (found,) = self._heads.run([_LOG_ODDS], {"features": rows})
        linear = np.zeros((len(self.columns) + 1, self._objectives), np.float32)
        linear[-1] = found[0]
        linear[self._columns] = found[1:-1] - found[0]
        straight = some @ linear[self._columns] + linear[-1]
        return linear if np.allclose(straight, found[-1:], rtol=1e-4, atol=1e-4) else None

    def _probe(self) -> None:
        """Runs both on made-up numbers. Raises RuntimeError where what comes out cannot be right."""
        items = np.eye(self.dim, dtype=np.float32)[[0, 0, self.dim - 1]]
        zeros = np.zeros((1, 3), np.int64)
        inputs: dict[str, NDArray[Any]] = {
            "items": items[None],
            "types": zeros,
            "gaps": zeros,
            "mask": np.ones((1, 3), np.bool_),
        }
        (vector,) = self._shopper.run(["shopper"], self._read(inputs))
        if vector.shape != (1, self.dim):
            raise RuntimeError(f"shopper: the model gave {vector.shape} for one shopper of {self.dim} dimensions")
        rows = np.random.default_rng(0).random((_WARM_UP_ROWS, len(self._columns)), np.float32)
        (together,) = self._heads.run(["probability"], {"features": rows})
        (alone,) = self._heads.run(["probability"], {"features": rows[:1]})
        if together.shape != (_WARM_UP_ROWS, self._objectives):
            raise RuntimeError(f"probability: the model gave {together.shape} for {_WARM_UP_ROWS} candidates")
        if not np.abs(alone[0] - together[0]).max() <= _MOST_DIFFERENT:
            raise RuntimeError("probability: a candidate alone and among others differ; a score must not see its batch")
