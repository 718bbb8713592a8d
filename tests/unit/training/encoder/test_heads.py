"""Heads are kept beside the model that they were trained with, and say the same when they are read again."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.unit.training.encoder import tiny
from training.encoder.cli import app
from training.encoder.heads import Heads, classify, load_heads, relevance
from training.encoder.model import load, save

CLASSES = sorted(tiny.KINDS)


def test_what_finetune_taught_them_can_be_asked(tmp_path: Path) -> None:
    data, pairs = tiny.write_shop(tmp_path / "toy"), tiny.write_toy_pairs(tmp_path / "pairs.parquet")
    (tmp_path / "one.toml").write_text(
        "batch = 16\nchunk = 16\nlearning_rate = 3e-3\nitem_tokens = 16\ncategory = 1.0\nrelevance = 0.5\n"
        "evaluate_every = 40\n"
    )
    out = tmp_path / "out"
    arguments = ["--dataset", str(data), "--pairs", str(pairs), "--model", str(tiny.write_model(tmp_path / "bert"))]
    result = CliRunner().invoke(
        app, ["finetune", *arguments, "--config", str(tmp_path / "one.toml"), "--steps", "40", "--out", str(out)]
    )
    assert result.exit_code == 0, result.output
    model = load(out)
    heads = load_heads(out, model)
    assert (heads.classes, heads.decoder) == (CLASSES, None)
    texts = [f"white {kind}" for kind in tiny.KINDS]
    told = classify(model, heads, texts, 16)
    assert np.mean([name == kind for (name, _), kind in zip(told, tiny.KINDS, strict=True)]) >= 0.75
    assert all(1 / len(CLASSES) < share <= 1 for _, share in told)
    right = relevance(model, heads, [f"white {said}" for said in tiny.SAID], texts)
    assert right.shape == (8,)
    assert np.all((right >= 0) & (right <= 1))


def test_they_are_read_as_they_were_written(tmp_path: Path) -> None:
    model = tiny.model()
    heads = Heads(model.dim, CLASSES, "attention", 1.0, 1.0, 1.0).eval()
    save(model, tmp_path / "model", {}, heads.files())
    again = load_heads(tmp_path / "model", model)
    asked = ["red boiler", "blue coat"]
    assert classify(model, again, asked) == classify(model, heads, asked)
    assert np.array_equal(relevance(model, again, asked, asked[::-1]), relevance(model, heads, asked, asked[::-1]))
    assert again.files() == heads.files()


def test_a_head_that_is_not_there_is_named(tmp_path: Path) -> None:
    model = tiny.model()
    none = Heads(model.dim, CLASSES, "mean", 0.0, 0.0, 0.0)
    assert none.files() == {}
    with pytest.raises(ValueError, match="category: the model was trained without this head"):
        classify(model, none, ["a"])
    with pytest.raises(ValueError, match="relevance: the model was trained without this head"):
        relevance(model, none, ["a"], ["b"])
    with pytest.raises(FileNotFoundError, match=r"heads\.json: missing; finetune with category, relevance or decoder"):
        load_heads(tmp_path, model)
