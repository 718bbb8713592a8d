"""The head that guesses hidden words is kept beside the encoder, and read as it was."""

from pathlib import Path

import pytest
import torch

from tests.unit.training.encoder import tiny
from training.encoder.card import ExportError
from training.encoder.model import load, save
from training.encoder.pretrain import Pretrain, PretrainConfig
from training.encoder.words import FILE, Words, load_words

TEXTS = ["the red kettle is good"] * 20


def test_what_is_kept_says_what_it_said(tmp_path: Path) -> None:
    model = tiny.model()
    words = Words(model.module.model)
    save(model, tmp_path / "bert", {}, words.files())
    again = load(tmp_path / "bert")
    read = load_words(tmp_path / "bert", again)
    assert read is not None
    states = torch.randn(3, model.dim)
    embeddings = again.module.model.get_input_embeddings().weight
    assert torch.equal(read(states, embeddings), words(states, model.module.model.get_input_embeddings().weight))


def test_where_none_was_kept_there_is_none(tmp_path: Path) -> None:
    bert = tiny.write_model(tmp_path / "bert")
    assert load_words(bert, load(bert)) is None


def test_the_head_of_another_encoder_is_refused(tmp_path: Path) -> None:
    bert = tiny.write_model(tmp_path / "bert")
    model = load(bert)
    (bert / FILE).write_bytes(b"no tensors")
    with pytest.raises(ExportError, match=r"words\.safetensors: not the head of the encoder beside it"):
        load_words(bert, model)


def test_tsdae_leaves_no_head() -> None:
    config = PretrainConfig(tokens=16, objective="tsdae")
    assert Pretrain(tiny.model(), TEXTS, config).files() == {}
    assert FILE in Pretrain(tiny.model(), TEXTS, PretrainConfig(tokens=16)).files()
