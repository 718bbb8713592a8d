"""Content vectors of texts with an exported encoder, kept on disk by space version and text."""

import hashlib
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from services.domain.bundle import EncoderManifest, read_bundle
from services.domain.text import item_text, scripts_of
from souk import SyncClient
from souk.types.v1 import types_pb2
from souk.vectors import Float32
from training.encoder.card import CARD, MODEL, TOKENIZER, Card

Progress = Callable[[int, int], None]

# As the embedder has it.
_MAX_FOREIGN = 0.3
_BATCH_TOKENS = 4096
# Texts between two writes of the cache: what was computed before an interruption is not computed again.
_KEEP_EVERY = 2048
# Texts at once: none waits long for the clock.
_AT_ONCE = 256
_ASKED_AT_ONCE = 1000


@dataclass(frozen=True)
class Encoder:
    """An encoder on disk, of a bundle or as exported."""

    model: Path
    tokenizer: Path
    manifest: EncoderManifest

    @classmethod
    def open(cls, path: Path) -> "Encoder":
        """The encoder of a bundle, or of the directory that `encoder export` wrote. Raises BundleError, ExportError."""
        if (path / CARD).is_file():
            card = Card.read(path / CARD)
            manifest = EncoderManifest(
                card.dim, card.max_tokens, card.space_version, card.scripts, card.template, precision=card.precision
            )
            return cls(path / MODEL, path / TOKENIZER, manifest)
        manifest = read_bundle(path).manifest.encoder
        return cls(path / manifest.model, path / manifest.tokenizer, manifest)

    def items(
        self, items: Sequence[types_pb2.Item], cache: Path, progress: Progress, until: float = math.inf
    ) -> Float32:
        """A normalised vector for each item, a row of zeros where the encoder cannot read it: (n, dim).

        From time.monotonic() `until` on no more are computed, and those at the end of the list are zeros too.
        """
        template = self.manifest.template
        texts = [template.item_prefix + item_text(item, template) for item in items]
        return self._vectors(texts, cache, progress, until)

    def queries(self, queries: Sequence[str], cache: Path, progress: Progress, until: float = math.inf) -> Float32:
        """As `items`, for queries."""
        return self._vectors([self.manifest.template.query_prefix + query for query in queries], cache, progress, until)

    def borrow(self, items: Sequence[types_pb2.Item], shop: SyncClient, cache: Path, progress: Progress) -> int:
        """Keeps the vectors that a running shop holds of the items; returns how many those are.

        The items must be what the shop holds. Raises ValueError where it serves another content space.
        """
        file = cache / f"{self.manifest.space_version}.npz"
        known = _read(file)
        template = self.manifest.template
        borrowed = 0
        for begin in range(0, len(items), _ASKED_AT_ONCE):
            part = items[begin : begin + _ASKED_AT_ONCE]
            found = shop.vectors([item.id for item in part])
            if found.space_version != self.manifest.space_version:
                raise ValueError(
                    f"the shop serves content space {found.space_version[:12]}, not {self.manifest.space_version[:12]}"
                )
            for item, vector, there in zip(part, found.vectors, found.present, strict=True):
                if there:
                    key = _key(template.item_prefix + item_text(item, template))
                    known[key] = vector / np.float32(max(float(np.linalg.norm(vector)), 1e-12))
                    borrowed += 1
            progress(begin + len(part), len(items))
        _write(file, known, self.manifest.dim)
        return borrowed

    def _vectors(self, texts: Sequence[str], cache: Path, progress: Progress, until: float) -> Float32:
        file = cache / f"{self.manifest.space_version}.npz"
        known = _read(file)
        readable = [text for text in dict.fromkeys(texts) if self._reads(text)]
        missing = [text for text in readable if _key(text) not in known]
        progress(0, len(missing))
        session = self._session() if missing else None
        kept = done = 0
        while session is not None and done < len(missing) and time.monotonic() < until:
            part = missing[done : done + _AT_ONCE]
            known.update(zip(map(_key, part), self._encode(session, part), strict=True))
            done += len(part)
            progress(done, len(missing))
            if done - kept >= _KEEP_EVERY or done == len(missing) or time.monotonic() >= until:
                _write(file, known, self.manifest.dim)
                kept = done
        out = np.zeros((len(texts), self.manifest.dim), np.float32)
        there = set(readable)
        for row, text in enumerate(texts):
            if text in there and (vector := known.get(_key(text))) is not None:
                out[row] = vector
        return out

    def _session(self) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(str(self.model), options, providers=["CPUExecutionProvider"])

    def _reads(self, text: str) -> bool:
        """Whether the vocabulary covers the scripts of the text, as the embedder has it."""
        if text.isascii() and "latin" in self.manifest.scripts:
            return any(character.isalnum() for character in text)
        shares = scripts_of(text[:2048])
        foreign = sum(share for script, share in shares.items() if script not in self.manifest.scripts)
        return bool(text.strip()) and foreign <= _MAX_FOREIGN

    def _encode(self, session: onnxruntime.InferenceSession, texts: Sequence[str]) -> Float32:
        """Normalised vectors, by as many one-thread runs at once as there are processors."""
        tokenizer = Tokenizer.from_file(str(self.tokenizer))
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.manifest.max_tokens)
        ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        batches: list[list[int]] = [[]]
        for row in order:
            if batches[-1] and (len(batches[-1]) + 1) * len(ids[row]) > _BATCH_TOKENS:
                batches.append([])
            batches[-1].append(row)

        def run(rows: list[int]) -> Float32:
            longest = max(len(ids[row]) for row in rows)
            padded = np.zeros((len(rows), longest), np.int64)
            mask = np.zeros_like(padded)
            for place, row in enumerate(rows):
                padded[place, : len(ids[row])] = ids[row]
                mask[place, : len(ids[row])] = 1
            (vectors,) = session.run(["sentence_embedding"], {"input_ids": padded, "attention_mask": mask})
            found: Float32 = vectors
            return found

        out = np.empty((len(texts), self.manifest.dim), np.float32)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for rows, vectors in zip(batches, pool.map(run, batches), strict=True):
                out[rows] = vectors
        return out


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _read(file: Path) -> dict[bytes, Float32]:
    if not file.is_file():
        return {}
    with np.load(file) as kept:
        keys, vectors = kept["keys"], kept["vectors"]
    return {key.tobytes(): vector for key, vector in zip(keys, vectors, strict=True)}


def _write(file: Path, known: dict[bytes, Float32], dim: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    keys = np.frombuffer(b"".join(known), np.uint8).reshape(-1, 32)
    vectors = np.stack(list(known.values())) if known else np.zeros((0, dim), np.float32)
    with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".npz", delete=False) as draft:
        np.savez(draft, keys=keys, vectors=vectors)
    os.replace(draft.name, file)
