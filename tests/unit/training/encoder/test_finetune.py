"""Fine-tuning learns what titles do not say, with every adapter, and goes on after a kill."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from souk.dataset import DatasetError
from tests.unit.training.encoder import tiny
from training.encoder.cli import app
from training.encoder.config import ConfigError
from training.encoder.finetune import Example, Finetune, FinetuneConfig
from training.encoder.loop import Ended, Evaluated, Loop
from training.encoder.model import encode, load, save
from training.encoder.pairs import Pair
from training.encoder.shops import Query, Shop

CONFIG = FinetuneConfig(
    steps=20, batch=16, chunk=64, learning_rate=3e-3, evaluate_every=10, patience=0, held_out=0.25, item_tokens=16,
    query_tokens=8, temperature=0.1,
)  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    torch.set_num_threads(1)
    path = tiny.write_shop(tmp_path_factory.mktemp("shops") / "toy")
    return Shop.open(path, tiny.pairs_of(), CONFIG.held_out, CONFIG.seed)


def run(path: Path, shops: list[Shop], config: FinetuneConfig, kill_at: int = -1) -> tuple[Finetune, Ended]:
    def told(step: int, evaluated: Evaluated | None) -> None:
        if step == kill_at and evaluated is None:
            raise KeyboardInterrupt

    task = Finetune(tiny.model(), shops, config, {})
    return task, Loop(task, config, path / "work", path / "board", told).run()


def test_it_learns(tmp_path: Path, shop: Shop) -> None:
    _, ended = run(tmp_path, [shop], CONFIG)
    assert ended.best.metrics["ndcg@10"] > ended.before["ndcg@10"] + 0.15
    assert set(ended.before) == {"ndcg@10", "recall@10", "recall@10_tail"}


@pytest.mark.parametrize(
    "changed",
    [
        {"adapter": "lora", "learning_rate": 0.02},
        {"adapter": "adalora", "learning_rate": 0.05, "steps": 40},
        {"adapter": "bottleneck", "learning_rate": 0.02},
        {"dims": (8, 32)},
        {"adversarial": "fgm", "epsilon": 0.05},
        {
            "adversarial": "pgd",
            "epsilon": 0.05,
            "pgd_step": 0.02,
            "pgd_steps": 2,
            "adapter": "lora",
            "learning_rate": 0.02,
        },
        {"mine_every": 10, "typos": 0.3, "shuffled": 0.3, "class_balance": 1.0, "tail_balance": 0.5},
        {"guided": True, "negative_margin": -0.02, "breadth": 1.0},
    ],
    ids=lambda changed: " ".join(map(str, changed.values())),
)
def test_it_learns_every_way_and_a_kill_changes_nothing(tmp_path: Path, shop: Shop, changed: dict[str, object]) -> None:
    config = replace(CONFIG, **changed)  # type: ignore[arg-type]
    task, ended = run(tmp_path / "whole", [shop], config)
    assert ended.best.metrics["ndcg@10"] > ended.before["ndcg@10"] + 0.05
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", [shop], config, kill_at=15)
    again, resumed = run(tmp_path / "broken", [shop], config)
    assert resumed.history == ended.history
    weights, same = (one.module.state_dict() for one in (task, again))
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    # What is exported finds what the training found.
    finished = task.finished()
    metrics = task._exams[0].take(finished, config.query_tokens, config.item_tokens, "fp32", config.dims)
    assert metrics == pytest.approx({name: ended.best.metrics[name] for name in metrics}, abs=0.02)
    save(finished, tmp_path / "model", {})
    texts = ["red kettle", "striker"]
    assert encode(load(tmp_path / "model"), texts) == pytest.approx(encode(finished, texts), abs=1e-5)


def test_an_adapter_trains_few_weights(shop: Shop) -> None:
    shares = {
        kind: Finetune(tiny.model(), [shop], replace(CONFIG, adapter=kind, rank=1, width=1), {}).trainable_share()
        for kind in ("full", "lora", "bottleneck")
    }
    assert shares["full"] == 1
    assert max(shares["lora"], shares["bottleneck"]) < 0.1


def test_low_rank_updates_begin_as_the_model_they_change(shop: Shop) -> None:
    texts = ["red kettle", "striker"]
    task = Finetune(tiny.model(), [shop], replace(CONFIG, adapter="lora"), {})
    assert encode(task._model, texts) == pytest.approx(encode(tiny.model(), texts), abs=1e-5)
    assert encode(task.finished(), texts) == pytest.approx(encode(tiny.model(), texts), abs=1e-5)


def test_heads_learn_categories_and_relevance(tmp_path: Path, shop: Shop) -> None:
    config = replace(CONFIG, category=0.5, relevance=0.5, decoder=0.5, pooling="attention", steps=60)
    _, ended = run(tmp_path, [shop], config)
    last = ended.history[-1].metrics
    assert last["category_accuracy"] > ended.before["category_accuracy"] + 0.3
    assert last["relevance_accuracy"] > 0.7
    assert last["decoder_accuracy"] > 0.7


def test_a_rich_shop_helps_a_poor_one(tmp_path: Path) -> None:
    rich, poor = (
        Shop.open(tiny.write_shop(tmp_path / name, name), tiny.pairs_of(name)[:count], 0.25, 7)
        for name, count in (("rich", 80), ("poor", 12))
    )
    _, ended = run(tmp_path, [rich, poor], CONFIG)
    assert ended.best.metrics["ndcg@10 poor"] > ended.before["ndcg@10 poor"] + 0.15
    both = [ended.best.metrics[f"ndcg@10 {name}"] for name in ("rich", "poor")]
    assert ended.best.metrics["ndcg@10"] == pytest.approx(sum(both) / 2)


def test_the_small_shop_is_drawn_more_often_as_the_temperature_rises(tmp_path: Path) -> None:
    shops = [
        Shop.open(tiny.write_shop(tmp_path / name, name), tiny.pairs_of(name)[:count], 0.25, 7)
        for name, count in (("rich", 80), ("poor", 8))
    ]

    def share(temperature: float) -> float:
        task = Finetune(tiny.model(), shops, replace(CONFIG, shop_temperature=temperature), {})
        drawn = [task.draw(np.random.default_rng(step)) for step in range(300)]
        assert all(len({one.shop for one in batch}) == 1 for batch in drawn)
        return float(np.mean([batch[0].shop for batch in drawn]))

    assert share(1.0) == pytest.approx(6 / 66, abs=0.06)
    assert share(100.0) == pytest.approx(0.5, abs=0.12)


def test_negatives_of_a_query_are_what_people_found_irrelevant_first_and_never_an_answer(shop: Shop) -> None:
    task = Finetune(tiny.model(), [shop], replace(CONFIG, negatives=3, negative_margin=-2.0), {})
    task.before_step(0)
    judged = replace(shop.learn[0], grades={**shop.learn[0].grades, 5: 0.0, 6: 0.0})
    other = Finetune(tiny.model(), [replace(shop, learn=[judged, *shop.learn[1:]])], task._config, {})
    other.before_step(0)
    assert other._pools[0][0][:2] == [5, 6]
    alone = Finetune(tiny.model(), other._shops, replace(task._config, negatives_by=()), {})
    alone.before_step(0)
    assert alone._pools[0][:2] == [[5, 6], []]
    for batch in (task.draw(np.random.default_rng(step)) for step in range(20)):
        for example in batch:
            assert len(example.rows) == 4
            assert example.query.grades[example.rows[0]] > 0
            assert all(example.query.grades.get(row, 0) == 0 for row in example.rows[1:])


def test_what_the_guide_takes_for_an_answer_is_not_learned_from_but_what_was_judged_is(shop: Shop) -> None:
    one, other = shop.learn[:2]
    query = replace(one, grades={one.relevant[0]: 3.0, other.relevant[0]: 0.0})

    def losses(judged: Query, margin: float) -> float:
        pair = replace(shop, learn=[judged, other])
        task = Finetune(tiny.model(), [pair], replace(CONFIG, guided=True, negatives=0, negative_margin=margin), {})
        examples = [Example(0, query, query.text, (query.relevant[0],)) for query in pair.learn]
        return task.learn(examples, 1.0, "fp32")["loss"]

    # With every item taken for an answer nothing is left to tell an answer from.
    assert losses(one, 2.0) == 0
    assert losses(one, -2.0) > losses(query, 2.0) > 0


def test_looking_for_negatives_tells_how_far_it_is(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.encoder.finetune._ENCODED", 32)
    task = Finetune(tiny.model(), [shop], CONFIG, {})
    told: list[tuple[str, int, int]] = []
    task.working = lambda *one: told.append(one)
    task.before_step(0)
    assert {what for what, _, _ in told} == {"negatives, toy"}
    assert [done for _, done, _ in told] == [0, 32, 64, 80, 112, 130]
    assert {total for _, _, total in told} == {80 + len(shop.learn)}


def test_broad_queries_are_drawn_more_often(shop: Shop) -> None:
    broad = replace(shop.learn[0], grades=dict.fromkeys(range(4), 1.0))
    both = replace(shop, learn=[broad, shop.learn[1]])
    odds = {
        b: Finetune(tiny.model(), [both], replace(CONFIG, breadth=b), {})._odds[0].tolist() for b in (0.0, 0.5, 1.0)
    }
    assert odds == {0.0: [0.5, 0.5], 0.5: pytest.approx([2 / 3, 1 / 3]), 1.0: pytest.approx([0.8, 0.2])}


def test_queries_are_drawn_as_categories_and_popularity_are_balanced(tmp_path: Path) -> None:
    pairs = tiny.pairs_of()
    # Kettles are asked for far more often than anything else.
    pairs += [replace(pair, query=f"{pair.query} {i}") for pair in pairs[::8] for i in range(10)]
    shop = Shop.open(tiny.write_shop(tmp_path / "toy"), pairs, 0.1, 7)

    def kettles(balance: float) -> float:
        task = Finetune(tiny.model(), [shop], replace(CONFIG, class_balance=balance, negatives=0), {})
        return float(task._odds[0][[shop.categories[query.relevant[0]] == "kettle" for query in shop.learn]].sum())

    assert kettles(0.0) > 0.5
    assert kettles(1.0) == pytest.approx(1 / 8)
    tail = Finetune(tiny.model(), [shop], replace(CONFIG, tail_balance=1.0), {})._odds[0]
    popularity = shop.popularity[[query.relevant[0] for query in shop.learn]]
    assert tail[popularity.argmin()] > 10 * tail[popularity.argmax()]


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"dims": (8, 16)}, "dims: the largest must be the model's 32, not 16"),
        ({"synonyms": 0.5}, "synonyms: needs a file of synonyms"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(shop: Shop, changed: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Finetune(tiny.model(), [shop], replace(CONFIG, **changed), {})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("adapter = 'prefix'", "adapter: must be one of full, lora, adalora, bottleneck, not 'prefix'"),
        ("negatives_by = ['luck']", "negatives_by: must be of words, model, not 'luck'"),
        ("dims = [4]", "dims: must be from 8 to 4096, not 4"),
        ("temperature = 0", "temperature: must be from 0.001 to 1, not 0"),
        ("batch = 1", r"batch: must be from 2 to 1e\+06, not 1"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "one.toml").write_text(text)
    with pytest.raises(ConfigError, match=problem):
        FinetuneConfig.read(tmp_path / "one.toml")


def test_the_command_line_trains_and_exports(tmp_path: Path) -> None:
    data, pairs = tiny.write_shop(tmp_path / "toy"), tiny.write_toy_pairs(tmp_path / "pairs.parquet")
    (tmp_path / "one.toml").write_text("batch = 16\nlearning_rate = 3e-3\nitem_tokens = 16\nadapter = 'bottleneck'\n")
    out = tmp_path / "out"
    arguments = ["--dataset", str(data), "--pairs", str(pairs), "--model", str(tiny.write_model(tmp_path / "bert"))]
    arguments += ["--config", str(tmp_path / "one.toml"), "--steps", "5", "--out", str(out)]
    result = CliRunner().invoke(app, ["finetune", *arguments])
    assert result.exit_code == 0, result.output
    assert "80 items, 60 queries to learn, 7 held out" in result.output
    assert f"next: python -m training encoder export --model {out}" in result.output
    assert sorted(path.name for path in tmp_path.glob("*out*")) == ["out", "out.tensorboard"]
    facts = json.loads((out / "training.json").read_text())
    assert facts["settings"]["batch"] == 16
    assert facts["sources"] == {"toy": ["synthetic:title"]}
    exported = CliRunner().invoke(app, ["export", "--model", str(out), "--out", str(tmp_path / "onnx")])
    assert exported.exit_code == 0, exported.output
    assert f"next: python -m training bundle --encoder {tmp_path / 'onnx'}" in exported.output
    again = CliRunner().invoke(app, ["finetune", *arguments])
    assert again.exit_code == 1
    assert "exists already" in again.output


def test_judgements_are_learned_alone_or_beside_pairs(tmp_path: Path) -> None:
    data, pairs = tiny.write_shop(tmp_path / "toy", judged=8), tiny.write_toy_pairs(tmp_path / "pairs.parquet")
    model = tiny.write_model(tmp_path / "bert")

    def sources(name: str, *given: str) -> list[str]:
        arguments = ["--dataset", str(data), "--model", str(model), "--out", str(tmp_path / name), "--steps", "1"]
        result = CliRunner().invoke(app, ["finetune", *arguments, *given])
        assert result.exit_code == 0, result.output
        found: list[str] = json.loads((tmp_path / name / "training.json").read_text())["sources"]["toy"]
        return found

    assert sources("alone") == ["judgement"]
    assert sources("both", "--pairs", str(pairs), "--judged") == ["judgement", "synthetic:title"]


def test_a_pair_of_an_unknown_item_is_refused_with_its_row(tmp_path: Path) -> None:
    pairs = [*tiny.pairs_of(), Pair("red kettle", "nowhere", 3.0, "log")]
    with pytest.raises(DatasetError, match="pairs, row 81, item_id: 'nowhere' is not in"):
        Shop.open(tiny.write_shop(tmp_path / "toy"), pairs, 0.1, 7)
