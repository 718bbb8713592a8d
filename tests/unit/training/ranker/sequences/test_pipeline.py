"""What is written ranks as what was trained, and the numbers of the report are those of what is written."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.training.ranker.sequences.walks import write_walks
from training.ranker.export import GateError
from training.ranker.sequences.config import fitted
from training.ranker.sequences.export import REPORT, Served, prove
from training.ranker.sequences.files import read_sequences
from training.ranker.sequences.judging import measures, ranks_of
from training.ranker.sequences.model import Facts, SequenceRanker
from training.ranker.sequences.pipeline import bags_of, fit
from training.ranker.sequences.texts import Texts


def test_the_report_is_that_of_the_files(tmp_path: Path) -> None:
    sequences = read_sequences(write_walks(tmp_path / "walks.txt"), seed=1)
    config = replace(fitted(sequences, seed=1), dim=16, dropout=0.1, learning_rate=0.01, epochs=4)
    out = tmp_path / "ranker"
    report = fit(sequences, None, None, config, out, tmp_path / "checkpoint.pt", lambda what: None, lambda epoch: None)
    served = Served.open(out)
    assert not report.about["masked"]
    again = measures(ranks_of(sequences, 1, np.arange(sequences.shoppers), served.scores, masked=False))
    assert again == pytest.approx(report.test)
    assert report.test["hr@5"] > report.baselines["popularity"]["test"]["hr@5"] + 0.2
    assert json.loads((out / REPORT).read_text())["test"] == report.to_json()["test"]
    # The networks find items by the cosine, which orders them as the product does.
    np.testing.assert_allclose(np.linalg.norm(served.vectors, axis=1), 1, atol=1e-6)
    other = SequenceRanker(config, Facts(torch.zeros(len(sequences.item_ids), 3)))
    with pytest.raises(GateError, match="parity: min cosine"):
        prove(other, served.scale, out)
    with pytest.raises(FileExistsError, match="exists already"):
        fit(sequences, None, None, config, out, tmp_path / "checkpoint.pt", lambda what: None, lambda epoch: None)


def test_what_is_known_stands_in_the_rows_of_its_items() -> None:
    content = {"b": np.array([1, 0, 2], np.float32), "c": np.array([0, 1, 1], np.float32)}
    attributes = {"a": ["red", "rare"], "b": ["red"], "c": ["red", "red"]}
    texts = Texts.of(["c", "x", "a", "b"], content, "v1")
    assert texts is not None
    assert texts.vectors.any(axis=1).tolist() == [True, False, False, True]
    np.testing.assert_allclose(texts.vectors[3], (content["b"] - texts.mean) @ texts.directions, atol=1e-6)
    bags = bags_of(["c", "x", "a", "b"], attributes)
    assert bags is not None
    assert bags.to_dense().tolist() == [[1], [0], [1], [1]]


def test_nothing_known_is_nothing() -> None:
    for content in ({}, {"a": np.zeros(3, np.float32)}):
        assert Texts.of(["a", "b"], content, "v1") is None
    for attributes in (None, {"a": ["rare"]}):
        assert bags_of(["a", "b"], attributes) is None
