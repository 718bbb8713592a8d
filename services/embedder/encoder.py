"""The encoder: texts -> tokens -> pooled vectors. Knows tokenizers and ONNX, nothing of requests."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from services.domain.bundle import EncoderManifest
from services.domain.text import scripts_of
from services.runtime.bfloat16 import OPENVINO, BFloat16Session
from services.runtime.onnx import ProviderError, Session, SessionLost
from souk.vectors import Float32

AUTO, CPU = "auto", "CPUExecutionProvider"

# As the release gate of a bundle has it; another provider than the gate's is measured again at every start.
_MIN_INVARIANCE = 0.9999
# Tokens, padding included, from which bfloat16 is faster.
_BULK = 64
_WARM_UP = ("headphones", "red running shoes size 42", "desk lamp " * 40, "word " * 4096)

# A text is taken for unreadable when more than this share of its letters is of scripts the vocabulary does not cover.
MAX_FOREIGN = 0.3
# Characters looked at for that; a model reads no more.
_LOOK_AT = 2048


@dataclass(frozen=True, slots=True)
class Text:
    """One text as the model reads it."""

    ids: NDArray[np.int64]
    truncated: bool
    covered: bool


class Encoder:
    """The encoder of a bundle; its methods may be called from several threads at once.

    provider: as the settings name it, but for AUTO; threads: how many may encode at once. Raises ProviderError where
    the provider cannot run here, and what the libraries raise for files that are not a tokenizer or a model.
    """

    def __init__(self, bundle: Path, manifest: EncoderManifest, provider: str, threads: int = 1) -> None:
        self.dim = manifest.dim
        self.max_tokens = manifest.max_tokens
        self.provider = provider
        self._scripts = frozenset(manifest.scripts)
        self._tokenizer = Tokenizer.from_file(str(bundle / manifest.tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(manifest.max_tokens)
        model = bundle / manifest.model
        self._session = Session(model, CPU if provider == OPENVINO else provider)
        self._bulk = BFloat16Session(model, threads) if provider == OPENVINO else None
        self._probe = self.tokenise(["probe"])

    def warm_up(self) -> None:
        """Encodes texts of several lengths. Raises RuntimeError when what comes out cannot be right."""
        texts = self.tokenise(_WARM_UP)
        for text, batched in zip(texts, self._run(texts), strict=True):
            alone = self._run_by(self._session, [text])[0]
            cosine = alone @ batched / np.sqrt((alone @ alone) * (batched @ batched))
            if not cosine >= _MIN_INVARIANCE:
                raise RuntimeError(
                    f"{self.provider}: a text alone and in a batch differ, cosine {cosine:.6f}; "
                    f"at least {_MIN_INVARIANCE} is needed"
                )

    def tokenise(self, texts: Sequence[str]) -> list[Text]:
        """Each text in tokens, markers included, cut at the model's limit."""
        encodings = self._tokenizer.encode_batch_fast(list(texts))
        return [
            Text(np.array(encoding.ids, np.int64), bool(encoding.overflowing), self.covers(text))
            for encoding, text in zip(encodings, texts, strict=True)
        ]

    def encode(self, texts: Sequence[Text]) -> Float32:
        """Mean-pooled vectors, not scaled: (len(texts), dim).

        Raises SessionLost when the session fails on a text it could always read, else whatever it failed with.
        """
        try:
            return self._run(texts)
        except Exception as error:
            try:
                self._run(self._probe)
            except Exception:
                raise SessionLost(f"the model no longer answers: {error}") from error
            raise

    def _run(self, texts: Sequence[Text]) -> Float32:
        padded = len(texts) * max(len(text.ids) for text in texts)
        return self._run_by(self._session if self._bulk is None or padded < _BULK else self._bulk, texts)

    def _run_by(self, session: Session | BFloat16Session, texts: Sequence[Text]) -> Float32:
        longest = max(len(text.ids) for text in texts)
        ids = np.zeros((len(texts), longest), np.int64)
        mask = np.zeros_like(ids)
        for row, text in enumerate(texts):
            ids[row, : len(text.ids)] = text.ids
            mask[row, : len(text.ids)] = 1
        (pooled,) = session.run(["pooled"], {"input_ids": ids, "attention_mask": mask})
        if pooled.shape != (len(texts), self.dim):
            raise RuntimeError(f"the model gave {pooled.shape} for {len(texts)} texts of {self.dim} dimensions")
        return pooled

    def covers(self, text: str) -> bool:
        """Whether the vocabulary covers the scripts the text is written in."""
        if text.isascii() and "latin" in self._scripts:
            return True
        shares = scripts_of(text[:_LOOK_AT])
        return sum(share for script, share in shares.items() if script not in self._scripts) <= MAX_FOREIGN


def opened(bundle: Path, manifest: EncoderManifest, provider: str, threads: int) -> tuple[Encoder, str]:
    """The encoder of a bundle, warmed up, and, for AUTO, why it is not OpenVINO's.

    AUTO is OpenVINO where it can be had and gives the vectors that ONNX Runtime gives, else ONNX Runtime on the CPU.
    Raises as Encoder and Encoder.warm_up.
    """
    if provider == AUTO:
        try:
            return opened(bundle, manifest, OPENVINO, threads)
        except (ProviderError, RuntimeError) as error:
            return opened(bundle, manifest, CPU, threads)[0], str(error)
    encoder = Encoder(bundle, manifest, provider, threads)
    encoder.warm_up()
    return encoder, ""
