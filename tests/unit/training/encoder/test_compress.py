"""Smaller encoders: a student, fewer layers, fewer bits, and the gate that refuses what lost too much."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from tokenizers import Tokenizer
from typer.testing import CliRunner

from services.domain.text import TextTemplate, item_text
from souk.dataset import read_items
from tests.unit.ranker.reading import write_reranker
from tests.unit.training.encoder import tiny
from training.bundle.bundle import AssembleError, assemble
from training.content import Encoder
from training.encoder import quantise as rounding
from training.encoder.adapters import add_bottlenecks
from training.encoder.attention import keep_heads
from training.encoder.card import CARD, MODEL, TOKENIZER, Card, ExportError
from training.encoder.cli import app
from training.encoder.config import ConfigError
from training.encoder.distil import Distil, DistilConfig, Margins, student_of, taught
from training.encoder.export import export
from training.encoder.gates import GATE_TEXTS
from training.encoder.loop import Loop
from training.encoder.model import encode, load, save
from training.encoder.pairs import read_pairs
from training.encoder.prune import prune
from training.encoder.quality import Quality, compare
from training.encoder.quantise import quantise
from training.encoder.release import problems
from training.encoder.reranker.card import CARD as RERANKER_CARD
from training.encoder.reranker.card import RerankerCard
from training.encoder.reranker.groups import Groups
from training.encoder.reranker.margins import triples_of


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, pairs of it, and a teacher as a directory and exported."""
    path = tmp_path_factory.mktemp("compress")
    tiny.write_shop(path / "toy")
    tiny.write_toy_pairs(path / "pairs.parquet")
    teacher = tiny.model()
    # As they are drawn its layers hardly move a vector, and there would be nothing to learn.
    for name, weights in teacher.module.model.encoder.named_parameters():
        if name.endswith("dense.weight"):
            weights.data *= 8
    save(teacher, path / "teacher", {})
    export(path / "teacher", path / "exported", TextTemplate(), lambda what: None)
    return path


def texts(shop: Path) -> list[str]:
    return [item_text(item, TextTemplate()) for item in read_items(shop / "toy")]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean((a * b).sum(axis=1)))


def test_a_student_learns_the_places_of_its_teacher_with_half_the_layers(shop: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("layers = 1\nsteps = 80\nbatch = 32\nlearning_rate = 3e-3\nevaluate_every = 40\nheld_out = 10\n")
    arguments = ["--dataset", str(shop / "toy"), "--model", str(shop / "teacher"), "--out", str(tmp_path / "student")]
    result = CliRunner().invoke(
        app, ["distil", *arguments, "--pairs", str(shop / "pairs.parquet"), "--config", str(config)]
    )
    assert result.exit_code == 0, result.output
    assert "next: python -m training encoder export" in result.output
    teacher, student = load(shop / "teacher"), load(tmp_path / "student")
    assert student.module.model.config.num_hidden_layers == 1
    untrained = cosine(encode(student_of(teacher, 1), texts(shop)), encode(teacher, texts(shop)))
    learned = cosine(encode(student, texts(shop)), encode(teacher, texts(shop)))
    assert 1 - learned < (1 - untrained) / 3


def test_a_student_begins_as_layers_of_its_teacher() -> None:
    teacher = tiny.model()
    student = student_of(teacher, 1)
    first = teacher.module.model.encoder.layer[0].state_dict()
    own = student.module.model.encoder.layer[0].state_dict()
    assert all((own[name] == first[name]).all() for name in first)
    assert teacher.module.model.config.num_hidden_layers == 2
    with pytest.raises(ConfigError, match="layers: the teacher has 2"):
        student_of(teacher, 2)


def test_margins_of_a_reranker_are_learned(shop: Path, tmp_path: Path) -> None:
    manifest = write_reranker(tmp_path, {"red": 2.0, "kettle": 3.0})
    RerankerCard(manifest, {}).write(tmp_path / "reranker" / RERANKER_CARD)
    items = list(read_items(shop / "toy"))
    groups = Groups(items, read_pairs(shop / "pairs.parquet"), 0.001, 7, 1)
    triples = triples_of(tmp_path / "reranker", groups, 60, 7, lambda done, total: None)
    for (answer, other), margin in zip(triples.rows, triples.margins.tolist(), strict=True):
        # The kind stands in the title and in the category.
        logits = [2 * ("red" in text) + 6 * ("kettle" in text) for text in (groups.texts[answer], groups.texts[other])]
        assert margin == pytest.approx(logits[0] - logits[1], abs=1e-3)

    teacher, own = load(shop / "teacher"), texts(shop)
    margins = Margins(
        [(query, own[a], own[b]) for query, (a, b) in zip(triples.queries, triples.rows, strict=True)], triples.margins
    )
    config = DistilConfig(layers=1, steps=40, batch=16, learning_rate=3e-3, held_out=10, evaluate_every=40, margin=0.1)
    sides = [taught(teacher, some, 32, 500, 7, tmp_path, lambda done, total: None) for some in (own, triples.queries)]
    task = Distil(student_of(teacher, 1), sides[0], sides[1], config, margins)
    asked = [("item", 0), *(("triple", row) for row in range(60))]
    before = task.loss(asked)[1]["margin"]
    Loop(task, config, tmp_path / "work", tmp_path / "board", lambda step, evaluated: None).run()
    task.module.eval()
    assert task.loss(asked)[1]["margin"] < before / 2


def test_what_the_teacher_said_is_not_asked_again(shop: Path, tmp_path: Path) -> None:
    teacher = load(shop / "teacher")
    made = taught(teacher, texts(shop), 16, 30, 7, tmp_path, lambda done, total: None)
    (kept,) = tmp_path.iterdir()
    written = kept.stat().st_mtime_ns
    again = taught(teacher, texts(shop), 16, 30, 7, tmp_path, lambda done, total: None)
    assert kept.stat().st_mtime_ns == written
    assert again.texts == made.texts
    assert np.array_equal(again.vectors, made.vectors)
    assert len(made.texts) == 30
    assert np.allclose(np.linalg.norm(made.vectors, axis=1), 1, atol=1e-6)


def test_the_layer_that_is_missed_least_is_left_out(shop: Path) -> None:
    model = tiny.model()
    # A layer whose last products give nothing only normalises again.
    idle = model.module.model.encoder.layer[1]
    for product in (idle.attention.output.dense, idle.output.dense):
        product.weight.data.zero_()
        product.bias.data.zero_()
    pruned = prune(model, 1, None, texts(shop)[:10], 16, lambda what: None)
    assert pruned.layers == [0]
    assert pruned.cosine > 0.999


def test_heads_that_are_missed_least_are_left_out_of_what_is_served(shop: Path, tmp_path: Path) -> None:
    model, read = tiny.model(heads=4), texts(shop)[:10]
    for layer in model.module.model.encoder.layer:
        # All heads say something, and the second and the last of each layer more than the others.
        layer.attention.self.value.weight.data *= 8
        for number in (0, 2):
            layer.attention.output.dense.weight.data[:, 8 * number : 8 * number + 8] *= 0.1
    pruned = prune(model, None, 2, read, 16, lambda what: None)
    assert (pruned.layers, pruned.heads) == ([0, 1], [[1, 3], [1, 3]])
    others = deepcopy(model)
    keep_heads(others.module.model, [[0, 2], [0, 2]])
    original = encode(model, read, 16)
    assert pruned.cosine == pytest.approx(cosine(encode(pruned.model, read, 16), original), abs=1e-6)
    assert 1 - pruned.cosine < (1 - cosine(encode(others, read, 16), original)) / 3

    save(pruned.model, tmp_path / "pruned", {})
    assert np.allclose(encode(load(tmp_path / "pruned"), read), encode(pruned.model, read), atol=1e-6)
    # The gate of the export holds it to the pruned model; fewer weights by the heads'.
    export(tmp_path / "pruned", tmp_path / "onnx", TextTemplate(), lambda what: None)
    assert weights_of(shop / "exported" / MODEL) - weights_of(tmp_path / "onnx" / MODEL) == 2 * 4 * 32 * 16
    # And it learns as any other.
    assert student_of(load(tmp_path / "pruned"), 1).module.model.config.num_hidden_layers == 1


def weights_of(model: Path) -> int:
    """How many the matrices of an ONNX file hold; equal vectors are written once."""
    return sum(int(np.prod(one.dims)) for one in onnx.load(model).graph.initializer if len(one.dims) == 2)


def test_only_fewer_layers_and_heads_can_be_left(shop: Path) -> None:
    model = tiny.model()
    for layers, heads, problem in (
        (None, None, "layers, heads: one of them must be given"),
        (2, None, "layers: must be from 1 to 1, fewer than the model's 2, not 2"),
        (1, 2, "heads: must be from 1 to 1, fewer than the model's 2, not 2"),
    ):
        with pytest.raises(ConfigError, match=problem):
            prune(model, layers, heads, texts(shop)[:10], 16, lambda what: None)
    add_bottlenecks(model.module.model, 4)
    with pytest.raises(ConfigError, match="heads: the model has bottlenecks"):
        prune(model, None, 1, texts(shop)[:10], 16, lambda what: None)


@pytest.mark.parametrize("mode", rounding.MODES)
def test_fewer_bits_are_another_space_and_a_text_is_the_same_alone_and_in_a_batch(
    shop: Path, tmp_path: Path, mode: str
) -> None:
    card = quantise(shop / "exported", tmp_path / mode, mode, [*texts(shop), *GATE_TEXTS], lambda what: None)
    original = Card.read(shop / "exported" / CARD)
    assert card == Card.read(tmp_path / mode / CARD)
    assert card.precision == mode
    assert card.space_version != original.space_version
    assert (tmp_path / mode / MODEL).stat().st_size < (shop / "exported" / MODEL).stat().st_size
    # It rounds, and not to something else.
    assert 0.95 <= card.metrics["encoder.parity_min_cosine"] < 1
    session = onnxruntime.InferenceSession(str(tmp_path / mode / MODEL), providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(tmp_path / mode / TOKENIZER))
    ids = [tokenizer.encode(text).ids for text in texts(shop)[:8]]
    longest = max(map(len, ids))
    padded = np.array([own + [0] * (longest - len(own)) for own in ids])
    (together,) = session.run(["sentence_embedding"], {"input_ids": padded, "attention_mask": (padded > 0) * 1})
    for own, vector in zip(ids, together, strict=True):
        (alone,) = session.run(
            ["sentence_embedding"], {"input_ids": np.array([own]), "attention_mask": np.ones((1, len(own)), np.int64)}
        )
        assert np.abs(alone[0] - vector).max() < 1e-5


def test_what_was_rounded_is_not_rounded_again(shop: Path, tmp_path: Path) -> None:
    quantise(shop / "exported", tmp_path / "bf16", "bf16", [], lambda what: None)
    with pytest.raises(ExportError, match="is bf16 already"):
        quantise(tmp_path / "bf16", tmp_path / "out", "int8", texts(shop), lambda what: None)
    with pytest.raises(ExportError, match="no texts"):
        quantise(shop / "exported", tmp_path / "out", "int8", [], lambda what: None)
    with pytest.raises(ExportError, match="exists already"):
        quantise(shop / "exported", tmp_path / "bf16", "bf16", [], lambda what: None)


def test_an_encoder_loses_nothing_against_itself_and_much_when_it_is_another(shop: Path, tmp_path: Path) -> None:
    items = list(read_items(shop / "toy"))
    own, other = Encoder.open(shop / "exported"), Encoder.open(shop / "exported")
    # The tiny vocabulary covers no script, and what cannot be read has no vector.
    own, other = (replace(one, manifest=replace(one.manifest, scripts=("latin",))) for one in (own, other))
    grades = {item.title: {item.id: 3} for item in items[:20]}
    quality = compare(own, other, items, grades, 50, tmp_path, lambda done, total: None)
    assert quality.lost == 0
    assert quality.dense == quality.dense_teacher > 0
    assert quality.hybrid >= 0.5
    assert quality.speedup > 0


def test_the_gate_of_a_bundle_refuses_what_lost_too_much(shop: Path, tmp_path: Path) -> None:
    good = Card.read(shop / "exported" / CARD)
    assert problems(good) == []
    worse = good.metrics | Quality(0.5, 0.6, 0.78, 0.8, 3.0).metrics()
    unlike = good.metrics | {"encoder.parity_min_cosine": 0.98}
    moved = good.metrics | {"encoder.invariance_min_cosine": 0.99}
    cases = [
        (replace(good, metrics=worse), "quality: nDCG@10 0.0200 lost"),
        (replace(good, metrics=unlike), "parity: min cosine 0.980000, the limit is 0.99999"),
        (replace(good, metrics=moved), "invariance: min cosine 0.990000"),
        (replace(good, precision="int8"), "quality: never measured"),
    ]
    for number, (card, message) in enumerate(cases):
        encoder = tmp_path / str(number)
        encoder.mkdir()
        (encoder / MODEL).write_bytes(b"model")
        (encoder / TOKENIZER).write_text("{}")
        card.write(encoder / CARD)
        with pytest.raises(AssembleError, match=message):
            assemble(encoder, tmp_path / "bundle")
    fine = good.metrics | {"encoder.parity_min_cosine": 0.98} | Quality(0.6, 0.6, 0.795, 0.8, 3.0).metrics()
    assert problems(replace(good, precision="int8", metrics=fine)) == []


def test_what_is_wrong_is_named(shop: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"query_share: must be from 0 to 0\.9, not 1"):
        DistilConfig(query_share=1.0)
    arguments = ["--encoder", str(shop / "exported"), "--dataset", str(shop / "toy"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["quantise", *arguments, "--mode", "int4"])
    assert result.exit_code == 1
    assert "--mode: must be one of int8, bf16, not 'int4'" in result.output
