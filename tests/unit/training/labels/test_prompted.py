"""Classes by the words that a masked language model expects in a prompt's gap."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tests.unit.training.encoder import tiny
from tests.unit.training.labels.reviews import TASK, kinds, write_reviews
from training.cli import app
from training.encoder.loop import Loop
from training.encoder.model import Model, load, save
from training.encoder.pretrain import Pretrain, PretrainConfig, from_scratch
from training.encoder.words import FILE, load_words
from training.labels.prompted import prompted, verbalisers
from training.labels.task import Task, TaskError, read_task


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Model]:
    """A tiny BERT that has read reviews that say in their last word what they are of."""
    torch.set_num_threads(1)
    config = PretrainConfig(
        steps=150, batch=32, learning_rate=5e-3, evaluate_every=150, patience=0, tokens=16, held_out=0.1, hidden=32,
        layers=1, heads=2, intermediate=64, max_tokens=16, masked=0.3,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("shop")
    texts, labels = kinds(400)
    said = [f"{text} the {tiny.KINDS[label]}" for text, label in zip(texts, labels, strict=True)]
    task = Pretrain(from_scratch(tiny.tokenizer(), config), said, config)
    Loop(task, config, path / "work", path / "board", lambda step, evaluated: None).run()
    save(task.finished(), path / "bert", {}, task.files())
    return path / "bert", load(path / "bert")


@pytest.fixture
def task(tmp_path: Path) -> Task:
    (tmp_path / "kinds.toml").write_text(TASK)
    return read_task(str(tmp_path / "kinds.toml"))


def test_what_the_gap_is_filled_with_tells_the_class(bert: tuple[Path, Model], task: Task) -> None:
    directory, model = bert
    words = load_words(directory, model)
    assert words is not None
    texts, labels = kinds(200, seed=1)
    soft = prompted(model, words, task, texts)
    assert (soft.argmax(axis=1) == labels).mean() > 0.9
    # A text longer than the model reads is cut, not the prompt after it.
    long = [text + " good" * 40 for text in texts]
    assert (prompted(model, words, task, long).argmax(axis=1) == labels).mean() > 0.8
    with pytest.raises(TaskError, match="prompt: leaves no room for a text in the 16 tokens"):
        prompted(model, words, replace(task, prompt="{text} " + "good " * 16 + "[MASK]"), texts)


def test_a_gap_before_the_text_is_filled_as_well(bert: tuple[Path, Model], task: Task) -> None:
    directory, model = bert
    words = load_words(directory, model)
    assert words is not None
    found = prompted(model, words, replace(task, prompt="[MASK] : {text}"), ["red boiler", "blue browner"])
    assert found.shape == (2, 2)
    assert found.sum(axis=1) == pytest.approx([1, 1])


def test_verbalisers_are_seed_words_of_one_token_but_where_they_are_named(task: Task) -> None:
    words = tiny.tokenizer()
    first, second = task.classes
    assert verbalisers(task, words) == [[words.token_to_id("kettle")], [words.token_to_id("toaster")]]
    seeds = replace(task, classes=(replace(first, verbalisers=(), words=("boiler", "lampshade", "red")), second))
    assert verbalisers(seeds, words)[0] == [words.token_to_id("boiler"), words.token_to_id("red")]
    long = replace(task, classes=(first, replace(second, verbalisers=("toaster", "lampshade"))))
    with pytest.raises(TaskError, match="classes, toaster, verbalisers: 'lampshade' is not one token"):
        verbalisers(long, words)
    none = replace(task, classes=(first, replace(second, verbalisers=(), words=("lampshade",))))
    with pytest.raises(TaskError, match="classes, toaster, verbalisers: are missing, and none of its seed words"):
        verbalisers(none, words)


def test_the_command_asks_by_prompt_where_the_head_is_there(tmp_path: Path, bert: tuple[Path, Model]) -> None:
    directory, _ = bert
    (tmp_path / "kinds.toml").write_text(TASK)
    data = write_reviews(tmp_path / "reviews.csv", 160)
    command = ["synthesize", "--data", str(data), "--task", str(tmp_path / "kinds.toml"), "--seeds", "1"]
    out = tmp_path / "out"
    done = CliRunner().invoke(app, [*command, "--model", str(directory), "--json", "--out", str(out)])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["prompted"]["accuracy"] > 0.9
    assert {"described kettle", "prompted toaster"} <= json.loads((out / "card.json").read_text())["functions"].keys()
    assert "prompted toaster" in (out / "labels.csv").read_text()
    (directory / FILE).rename(tmp_path / FILE)
    without = CliRunner().invoke(app, [*command, "--model", str(directory)])
    (tmp_path / FILE).rename(directory / FILE)
    assert without.exit_code == 0, without.output
    assert "described" in without.output
    assert "prompted" not in without.output
    assert f"--model {directory}" in without.output.replace("\n", "")


def test_shares_are_kept(bert: tuple[Path, Model], task: Task) -> None:
    directory, model = bert
    words = load_words(directory, model)
    assert words is not None
    given = tuple(replace(one, share=share) for one, share in zip(task.classes, (0.7, 0.3), strict=True))
    soft = prompted(model, words, replace(task, classes=given), kinds(100)[0])
    assert soft.mean(axis=0) == pytest.approx(np.array([0.7, 0.3]), abs=1e-3)
