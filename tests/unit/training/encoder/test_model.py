"""A trainable encoder is read back as it was written, and encodes a text alone as in a batch."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.training.encoder.tiny import model
from training.encoder.card import ExportError
from training.encoder.model import encode, load, save, tokens

TEXTS = ["red kettle", "a", "blue toaster for the good kitchen of acme " * 8]


def test_it_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    made = model()
    save(made, tmp_path / "model", {"steps": 3})
    again = load(tmp_path / "model")
    assert again.max_tokens == made.max_tokens
    assert encode(again, TEXTS) == pytest.approx(encode(made, TEXTS), abs=1e-6)
    with pytest.raises(ExportError, match="exists already"):
        save(made, tmp_path / "model", {})


def test_what_was_read_has_no_dropout_after_encoding_either(tmp_path: Path) -> None:
    save(model(), tmp_path / "model", {})
    again = load(tmp_path / "model")
    encode(again, TEXTS)
    assert not any(part.training for part in again.module.modules())


def test_sentence_transformers_reads_it_as_we_do(tmp_path: Path) -> None:
    transformers = pytest.importorskip("sentence_transformers")
    made = model()
    save(made, tmp_path / "model", {})
    theirs = transformers.SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(TEXTS)
    assert theirs == pytest.approx(encode(made, TEXTS), abs=1e-5)


def test_texts_are_cut_as_serving_cuts_them() -> None:
    made = model()
    cut = tokens(made, [TEXTS[2]], max_tokens=8)[0]
    assert len(cut) == 8
    assert (cut[0], cut[-1]) == (2, 3)
    assert len(tokens(made, [TEXTS[2]])[0]) == 32


def test_a_text_alone_is_the_text_in_a_batch() -> None:
    made = model(dropout=0.5)
    made.module.train()
    together = encode(made, TEXTS)
    assert made.module.training
    assert np.linalg.norm(together, axis=1) == pytest.approx(1)
    for row, text in enumerate(TEXTS):
        assert encode(made, [text])[0] == pytest.approx(together[row], abs=1e-5)


def test_bfloat16_is_near(tmp_path: Path) -> None:
    made = model()
    cosines = (encode(made, TEXTS) * encode(made, TEXTS, precision="bf16")).sum(axis=1)
    assert (cosines > 0.999).all()
    assert next(made.module.parameters()).dtype == torch.float32
