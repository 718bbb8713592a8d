"""The cross-encoder of a bundle: reads a query together with each of the best candidates, as long as there is time."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from services.domain.bundle import RerankerManifest
from services.domain.reranking import batch, candidate_text, fused, joined
from services.domain.text import scripts_of
from services.runtime.onnx import Session, SessionLost
from souk.types.v1 import types_pb2
from souk.vectors import Float32

# Pairs between two looks at the clock.
_AT_ONCE = 8
# As the release gate of a bundle has it: a pair alone and among others.
_MOST_DIFFERENT = 1e-4
# As the embedder has it.
_MAX_FOREIGN = 0.3


@dataclass(frozen=True)
class Read:
    """What was read of n candidates."""

    relevance: NDArray[np.float64]
    """0 to 1, NaN where not read: (n,)."""
    fewer: types_pb2.DegradationReason.ValueType
    """Why fewer were read than asked for; unspecified where none was left out."""

    @property
    def count(self) -> int:
        """How many were read."""
        return int((~np.isnan(self.relevance)).sum())


class Reranker:
    """The reranker of one bundle; its methods may be called from several threads at once.

    Raises ProviderError where the provider cannot run here, RuntimeError where what it gives cannot be right, and what
    the libraries raise for files that are not a tokenizer or a model.
    """

    def __init__(self, bundle: Path, manifest: RerankerManifest, provider: str) -> None:
        self.weight = manifest.weight
        self.provider = provider
        self._max_tokens = manifest.max_tokens
        self._scripts = frozenset(manifest.scripts)
        self._tokenizer = Tokenizer.from_file(str(bundle / manifest.tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(manifest.max_tokens)
        self._session = Session(bundle / manifest.model, provider)
        self._lost: SessionLost | None = None
        self._probe()

    def read(self, query: str, candidates: types_pb2.CandidateColumns, most: int, until: float) -> Read:
        """Reads the `most` candidates with the best retrieval scores (ties by id), best first, until time.monotonic()
        is `until`; what was begun is finished."""
        relevance = np.full(len(candidates.id), np.nan)
        if not self._covers(query):
            return Read(relevance, types_pb2.DEGRADATION_REASON_VOCABULARY)
        rows = sorted(range(len(candidates.id)), key=lambda row: (-candidates.score[row], candidates.id[row]))[:most]
        fewer = types_pb2.DEGRADATION_REASON_UNSPECIFIED
        for begin in range(0, len(rows), _AT_ONCE):
            if time.monotonic() >= until:
                fewer = types_pb2.DEGRADATION_REASON_TIMEOUT
                break
            part = rows[begin : begin + _AT_ONCE]
            texts = [
                candidate_text(
                    candidates.title[row],
                    candidates.brands[candidates.brand[row]],
                    candidates.categories[candidates.category[row]],
                )
                for row in part
            ]
            relevance[part] = self._run(query, texts)
        return Read(relevance, fewer)

    def fuse(self, scores: NDArray[np.float64], read: Read) -> NDArray[np.float64]:
        """The scores (n,) with what was read, by the bundle's weight; as they were where nothing was read."""
        return fused(scores, read.relevance, self.weight) if read.count else scores

    def check(self) -> None:
        """Raises when the network no longer answers anything."""
        if self._lost is not None:
            raise self._lost

    def _run(self, query: str, texts: list[str]) -> Float32:
        try:
            return self._relevance(query, texts)
        except Exception as error:
            try:
                self._probe()
            except Exception:
                self._lost = SessionLost(f"the reranker no longer answers: {error}")
                raise self._lost from error
            raise

    def _relevance(self, query: str, texts: list[str]) -> Float32:
        asked, *items = self._tokenizer.encode_batch_fast([query, *texts])
        pairs = [joined(asked.ids, item.ids, self._max_tokens) for item in items]
        (relevance,) = self._session.run(["relevance"], dict(batch(pairs)))
        if relevance.shape != (len(texts),) or relevance.min() < 0 or relevance.max() > 1:
            raise RuntimeError(f"relevance: the model gave {relevance.shape} for {len(texts)} pairs, or not 0 to 1")
        return relevance

    def _covers(self, query: str) -> bool:
        shares = scripts_of(query)
        return sum(share for script, share in shares.items() if script not in self._scripts) <= _MAX_FOREIGN

    def _probe(self) -> None:
        """Reads made-up pairs. Raises RuntimeError where what comes out cannot be right."""
        texts = ["headphones", "red running shoes size 42. Acme. Shoes > Running", "desk lamp " * 40]
        together = self._relevance("headphones", texts)
        alone = np.concatenate([self._relevance("headphones", [text]) for text in texts])
        if not np.abs(together - alone).max() <= _MOST_DIFFERENT:
            raise RuntimeError("relevance: a candidate alone and among others differ; a score must not see its batch")
