"""Pairs from behaviour: what is wanted is told apart from what stood high, and met together from met often."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from souk.types.v1 import types_pb2
from training.cli import app
from training.data.canonical import open_dataset
from training.data.generate import generate
from training.encoder.pairs import read_pairs
from training.labels.behaviour import KEPT, clicked_together, met_together, rows_of_searches, searched
from training.ranker.answers import Answers
from training.ranker.log import read_log

CURVE = np.array([1.0, 0.5, 0.25, 0.1])


def answers_of(items: np.ndarray, clicks: np.ndarray, times: np.ndarray | None = None) -> Answers:
    """A page a row, shown to one shopper for one query."""
    n, places = items.shape
    labels = np.zeros((n * places, 3), np.float32)
    labels[:, 0] = clicks.ravel()
    return Answers(
        np.zeros(n, np.int64),
        np.zeros(n, np.int64),
        np.linspace(0, n * 7200, n) if times is None else times,
        np.full(n, types_pb2.SCENE_SEARCH),
        ["mug"] * n,
        np.arange(n + 1) * places,
        np.zeros(n, np.int64),
        [""] * n,
        items.ravel(),
        np.tile(np.arange(places), n),
        np.ones(n * places),
        np.ones(n * places, np.bool_),
        np.full(n * places, np.nan),
        labels,
    )


@pytest.fixture(scope="module")
def buried() -> Answers:
    """Item 3 stands last and is wanted most; item 0 stands first and is wanted least."""
    rng = np.random.default_rng(0)
    items = np.tile(np.arange(4), (3000, 1))
    wanted = np.array([0.1, 0.3, 0.3, 0.6])
    return answers_of(items, rng.random(items.shape) < CURVE * wanted)


def test_what_is_wanted_is_told_apart_from_what_stood_high(buried: Answers) -> None:
    corrected = searched(buried, CURVE).counted.confidence()
    assert corrected[3] > 0.99
    assert corrected[0] < 0.01
    # As they are, clicks say the opposite.
    plain = searched(buried, np.ones(4)).counted.confidence()
    assert plain[3] < 0.01 < plain[0]


def test_rows_say_how_sure_and_how_deep(buried: Answers) -> None:
    found = searched(buried, CURVE)
    rows = {row["item_id"]: row for row in rows_of_searches(found, list("abcd"), {("mug", "d")}, 0.9)}
    assert rows["d"]["grade"] == KEPT
    assert rows["a"]["grade"] == 0.0
    assert min(row["confidence"] for row in rows.values()) >= 0.9
    assert rows["d"]["clicks"] > rows["d"]["expected"]


def test_met_together_is_not_met_often() -> None:
    """Items 1 and 2 always come together; item 0 stands first, is in most sessions, and with any of the others."""
    rng = np.random.default_rng(1)
    pages = [
        np.array([0, 1, 2, 9]) if rng.random() < 0.3 else np.array([0, *rng.permutation(np.arange(3, 9))[:3]])
        for _ in range(600)
    ]
    items = np.stack(pages)
    clicks = rng.random(items.shape) < np.array([0.9, 0.6, 0.6, 0.3])
    counted = clicked_together(answers_of(items, clicks), CURVE, 0)
    sure = dict(zip(zip(counted.one.tolist(), counted.two.tolist(), strict=True), counted.confidence(), strict=True))
    often = dict(zip(zip(counted.one.tolist(), counted.two.tolist(), strict=True), counted.clicks, strict=True))
    assert often[0, 1] > often[1, 2]
    assert sure[0, 1] < 0.6
    assert sure[1, 2] > 0.99


def test_clicks_of_two_sessions_are_not_together() -> None:
    items, clicks = np.array([[0], [1]]), np.ones((2, 1), np.bool_)
    assert len(clicked_together(answers_of(items, clicks, np.array([0.0, 60.0])), CURVE, 0).one) == 1
    assert len(clicked_together(answers_of(items, clicks, np.array([0.0, 7200.0])), CURVE, 0).one) == 0


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shop") / "generated"
    generate(path, 100, 150, 5, impressions=True)
    return path


def test_the_command_writes_what_finetune_reads(shop: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    command = ["synthesize-pairs", "--dataset", str(shop), "--out", str(out), "--least", "0.5"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "encoder finetune" in done.output
    pairs = read_pairs(out / "pairs.parquet")
    assert {pair.source for pair in pairs} >= {"log:search", "log:session"}
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 1
    assert "exists already" in again.output


def test_without_what_was_shown_only_items_are_paired(shop: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    generate(plain, 100, 150, 5)
    log = read_log(open_dataset(plain), open_dataset(plain).events(), 0)
    assert len(met_together(log, (types_pb2.EVENT_TYPE_PURCHASE,)).one) > 10
    out = tmp_path / "pairs"
    done = CliRunner().invoke(app, ["synthesize-pairs", "--dataset", str(plain), "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    assert "log:search" not in {pair.source for pair in read_pairs(out / "pairs.parquet")}
    assert json.loads(done.output)["looked_at"] == []
