"""The reranker: learns what answers a query, and is served as it was trained."""

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from services.domain.bundle import read_bundle
from services.domain.text import TextTemplate
from services.ranker.reranker import Reranker
from souk.dataset import DatasetError, read_items
from souk.types.v1 import types_pb2
from tests.unit.training.encoder import tiny
from training.bundle.bundle import AssembleError, assemble
from training.encoder.card import CARD as ENCODER_CARD
from training.encoder.card import MODEL, TOKENIZER, Card
from training.encoder.cli import app
from training.encoder.config import ConfigError
from training.encoder.pairs import Pair, read_pairs, write_pairs
from training.encoder.reranker.card import CARD, RerankerCard, RerankerError
from training.encoder.reranker.export import export_reranker, prove
from training.encoder.reranker.groups import Groups
from training.encoder.reranker.model import CrossEncoder, Reader
from training.encoder.reranker.train import LearnToRead, RerankerConfig

SETTINGS = """steps = 240
batch = 16
learning_rate = 3e-3
max_tokens = 24
evaluate_every = 80
held_out = 0.2
weight = 0.75
"""


@dataclass(frozen=True)
class Made:
    """What the command made of the toy shop, what it said, and the network it exported."""

    path: Path
    output: str
    reader: Reader

    def served(self) -> Reranker:
        manifest = RerankerCard.read(self.path / "out" / CARD).manifest
        # Its vocabulary is too small to cover any script.
        manifest = replace(
            manifest, model="out/model.onnx", tokenizer="out/tokenizer.json", scripts=("latin",), weight=0.5
        )
        return Reranker(self.path, manifest, "CPUExecutionProvider")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """One training and one export for all tests: the export takes seconds."""
    path = tmp_path_factory.mktemp("reranker")
    (path / "config.toml").write_text(SETTINGS)
    shop = tiny.write_shop(path / "toy")
    pairs = path / "pairs.parquet"
    write_pairs(pairs, judged(list(read_items(shop))))
    model = tiny.write_model(path / "model")
    exported: list[Reader] = []

    def seen(own: Reader, weight: float, metrics: dict[str, float], out: Path) -> RerankerCard:
        exported.append(own)
        return export_reranker(own, weight, metrics, out)

    arguments = ["reranker", "--dataset", str(shop), "--pairs", str(pairs), "--model", str(model)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.encoder.reranker.export.export_reranker", seen)
        result = CliRunner().invoke(
            app, [*arguments, "--config", str(path / "config.toml"), "--out", str(path / "out")]
        )
    assert result.exit_code == 0, result.output
    return Made(path, result.output, exported[0])


def judged(items: list[types_pb2.Item]) -> list[Pair]:
    """For every colour and word for a kind: 3 where both are meant, 1 where the kind is."""
    return [
        Pair(f"{colour} {said}", item.id, 3.0 if colour in item.title else 1.0, "judgement")
        for said, kind in zip(tiny.SAID, tiny.KINDS, strict=True)
        for colour in tiny.COLOURS
        for item in items
        if kind in item.title
    ]


def reader(seed: int = 1) -> Reader:
    begun = tiny.model(seed)
    torch.manual_seed(seed)
    return Reader(CrossEncoder(begun.module.model), begun.tokenizer, 24)


def groups(made: Made) -> Groups:
    return Groups(list(read_items(made.path / "toy")), read_pairs(made.path / "pairs.parquet"), 0.2, 7, 300)


def candidates(ids: list[str], titles: list[str], scores: list[float]) -> types_pb2.CandidateColumns:
    return types_pb2.CandidateColumns(
        id=ids, title=titles, score=scores, brand=[0] * len(ids), brands=["acme"], category=[0] * len(ids),
        categories=[""],
    )  # fmt: skip


def test_it_learns_and_says_what_is_next(made: Made) -> None:
    assert "next: python -m training bundle" in made.output
    card = RerankerCard.read(made.path / "out" / CARD)
    untrained = LearnToRead(reader(), groups(made), RerankerConfig()).evaluate()["ndcg@10"]
    assert card.metrics["reranker.ndcg@10"] > untrained + 0.2
    assert card.metrics["reranker.parity_max_difference"] < 1e-4
    assert card.manifest.weight == 0.75
    assert card.manifest.max_tokens == 24


def test_serving_gives_what_training_gave(made: Made) -> None:
    served = made.served()
    titles = [f"{colour} {kind}" for kind in tiny.KINDS for colour in tiny.COLOURS]
    found = served.read("good red kettle", candidates([str(i) for i in range(40)], titles, [0.0] * 40), 40, math.inf)
    assert found.count == 40
    expected = 1 / (1 + np.exp(-made.reader.logits([("good red kettle", f"{title}. acme") for title in titles])))
    assert np.abs(found.relevance - expected).max() < 1e-4


def test_the_order_of_candidates_changes_nothing_and_time_bounds_what_is_read(made: Made) -> None:
    served = made.served()
    ids, titles = [f"i{n:02}" for n in range(30)], [f"red {tiny.KINDS[n % 8]} {n:02}" for n in range(30)]
    scores = [1.0 - n // 3 / 100 for n in range(30)]
    straight = served.read("red boiler acme", candidates(ids, titles, scores), 10, math.inf)
    turned = served.read("red boiler acme", candidates(ids[::-1], titles[::-1], scores[::-1]), 10, math.inf)
    assert straight.count == turned.count == 10
    assert np.array_equal(straight.relevance, turned.relevance[::-1], equal_nan=True)
    assert not np.isnan(straight.relevance[:10]).any()
    assert straight.fewer == types_pb2.DEGRADATION_REASON_UNSPECIFIED

    late = served.read("red boiler acme", candidates(ids, titles, scores), 10, time.monotonic())
    assert (late.count, late.fewer) == (0, types_pb2.DEGRADATION_REASON_TIMEOUT)
    assert served.fuse(np.array(scores), late).tolist() == scores
    foreign = served.read("无线耳机", candidates(ids, titles, scores), 10, math.inf)
    assert (foreign.count, foreign.fewer) == (0, types_pb2.DEGRADATION_REASON_VOCABULARY)


def test_answers_of_the_same_kind_are_no_negatives(made: Made) -> None:
    known = groups(made)
    rng = np.random.default_rng(1)
    for asked in known.learn[:20]:
        answer_kinds = {known.texts[row].split(" > ")[-1] for row in asked.grades}
        assert answer_kinds.isdisjoint(known.texts[row].split(" > ")[-1] for row in known.negatives(asked))
        group = known.group(asked, 4, rng)
        assert group[0][2] > 0
        assert all(target == asked.target(row) for _, row, target in group)
        assert len(group) >= 4


def test_grades_are_shares_of_the_best_of_the_query(made: Made) -> None:
    pairs = [Pair("a", "toy-0", 2, "judgement"), Pair("a", "toy-1", 1, "judgement"), Pair("b", "toy-2", 1, "log")]
    known = Groups(list(read_items(made.path / "toy")), pairs, 0.5, 7, 300)
    (asked,) = [one for one in (*known.held, *known.learn) if one.query == "a"]
    assert [asked.target(row) for row in (0, 1, 2)] == [1.0, 0.5, 0.0]


def test_what_is_wrong_is_named(made: Made, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="weight: must be from 0 to 1, not 2"):
        RerankerConfig(weight=2.0)
    with pytest.raises(DatasetError, match=r"row 1, item_id: 'gone'"):
        Groups(list(read_items(made.path / "toy")), [Pair("a", "gone", 1, "log")], 0.1, 7, 300)
    with pytest.raises(RerankerError, match="exists already"):
        export_reranker(reader(), 0.5, {}, made.path / "out")
    with pytest.raises(RerankerError, match=r"reranker\.json"):
        RerankerCard.read(tmp_path / CARD)


def test_a_model_that_says_something_else_than_pytorch_is_refused(made: Made) -> None:
    assert prove(made.reader, made.path / "out/model.onnx")["parity_max_difference"] < 1e-4
    with pytest.raises(RerankerError, match="parity with PyTorch: relevance differs by"):
        prove(reader(seed=2), made.path / "out/model.onnx")


def test_a_bundle_takes_it_along(made: Made, tmp_path: Path) -> None:
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    (encoder / MODEL).write_bytes(b"model")
    (encoder / TOKENIZER).write_text("{}")
    Card(4, 8, "ab" * 32, ("latin",), TextTemplate(), "fp32", {}).write(encoder / ENCODER_CARD)
    bundle = assemble(encoder, tmp_path / "bundle", reranker=made.path / "out")
    assert bundle.manifest.reranker == RerankerCard.read(made.path / "out" / CARD).manifest
    assert read_bundle(bundle.path).manifest.reranker == bundle.manifest.reranker
    assert "reranker.ndcg@10" in bundle.manifest.metrics
    assert (bundle.path / "reranker/model.onnx").is_file()
    with pytest.raises(AssembleError, match=r"reranker\.json"):
        assemble(encoder, tmp_path / "other", reranker=tmp_path)
