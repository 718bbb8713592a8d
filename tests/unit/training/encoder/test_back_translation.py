"""Queries come back in other words with the items they had; what did not change is left out."""

from pathlib import Path

import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration
from typer.testing import CliRunner

from tests.unit.training.encoder import tiny
from training.encoder.back_translation import back_translated, there_and_back
from training.encoder.cli import app
from training.encoder.config import ConfigError
from training.encoder.model import save_tokenizer
from training.encoder.pairs import Pair, read_pairs, write_pairs

PAIRS = [Pair("red sofa", "a", 3.0, "log"), Pair("red sofa", "b", 1.0, "log"), Pair("mug", "c", 2.0, "log")]


def in_other_words(texts: list[str]) -> list[str]:
    """A translation there and back that knows one word."""
    return [text.replace("sofa", "couch").upper() for text in texts]


def test_items_and_grades_stay() -> None:
    assert back_translated(PAIRS, in_other_words, lambda done, total: None) == [
        Pair("RED COUCH", "a", 3.0, "synthetic:back-translation"),
        Pair("RED COUCH", "b", 1.0, "synthetic:back-translation"),
    ]
    with pytest.raises(ConfigError, match="the translation of 2 texts gave 1"):
        back_translated(PAIRS, lambda texts: texts[:1], lambda done, total: None)


def test_models_in_directories_make_the_round_trip(tmp_path: Path) -> None:
    torch.manual_seed(0)
    words = tiny.tokenizer()
    config = BartConfig(
        vocab_size=words.get_vocab_size(), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=128, pad_token_id=0,
        bos_token_id=2, eos_token_id=3, decoder_start_token_id=2, forced_eos_token_id=3, init_std=0.5,
    )  # fmt: skip
    BartForConditionalGeneration(config).save_pretrained(tmp_path / "model")
    save_tokenizer(words, tmp_path / "model")
    translate = there_and_back(tmp_path / "model", tmp_path / "model")
    together = translate(["red kettle", "a novel for the good kitchen"])
    # Random weights say random words; but the same ones alone as beside a longer text.
    assert together[0]
    assert translate(["red kettle"])[0] == together[0]
    with pytest.raises(ConfigError, match=r"nowhere/config\.json: missing"):
        there_and_back(tmp_path / "nowhere", tmp_path / "model")


def test_the_command_line_adds_what_a_function_says(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.parquet", PAIRS)
    arguments = ["back-translate", "--pairs", str(tmp_path / "pairs.parquet"), "--out", str(tmp_path / "more.parquet")]
    nothing = CliRunner().invoke(app, arguments)
    assert nothing.exit_code == 1
    assert "--there, --back: both must be given, or --by" in nothing.output
    unknown = CliRunner().invoke(app, [*arguments, "--by", "json:translate"])
    assert unknown.exit_code == 1
    assert "'json:translate' names no function" in unknown.output
    done = CliRunner().invoke(app, [*arguments, "--by", f"{__name__}:in_other_words"])
    assert done.exit_code == 0, done.output
    assert len(read_pairs(tmp_path / "more.parquet")) == 5
