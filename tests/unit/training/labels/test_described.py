"""Classes by what they are: the nearest description, whichever is near to all texts."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.unit.training.encoder.tiny import write_model
from training.cli import app
from training.labels.described import descriptions, nearness
from training.labels.task import LabelClass, Task, TaskError, read_task

TASK = """
language = "en"
text = ["text"]
label = "kind"
[[classes]]
name = "kettle"
words = ["kettle"]
description = "a red kettle for the kitchen"
[[classes]]
name = "ladder"
words = ["ladder", "steps"]
"""


def unit(rows: np.ndarray) -> np.ndarray:
    found: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found.astype(np.float32)


def test_a_description_near_to_every_text_does_not_win_them_all() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    common = np.array([3.0, 0, 0])
    texts = unit(common + np.eye(3)[1 + labels] + 0.1 * rng.standard_normal((400, 3)))
    # The first says what all texts have in common, too.
    described = unit(np.array([[3.0, 1, 0], [0, 0, 1.0]]))
    assert (texts @ described.T).argmax(axis=1).sum() == 0
    found = nearness(texts, described, None)
    assert (found.argmax(axis=1) == labels).mean() > 0.95
    shares = nearness(texts, described, np.array([0.8, 0.2]))
    assert shares.mean(axis=0) == pytest.approx([0.8, 0.2], abs=1e-3)


def test_without_a_description_the_seed_words_are_one() -> None:
    classes = (LabelClass("a", "a", ("x", "y")), LabelClass("b", "b", ("z",), description="what z is"))
    assert descriptions(Task("t", "en", ("text",), "kind", classes)) == ["x, y", "what z is"]


def test_the_command_asks_an_encoder_beside_the_words(tmp_path: Path) -> None:
    task, data = tmp_path / "kinds.toml", tmp_path / "texts.csv"
    task.write_text(TASK)
    rng = np.random.default_rng(0)
    kinds, others = (("kettle", "boiler"), ("ladder", "steps")), ("red", "blue", "good", "kitchen", "acme")
    with data.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "kind"))
        for _ in range(160):
            kind = int(rng.integers(2))
            words = [rng.choice(kinds[kind]), *rng.choice(others, 3)]
            writer.writerow((" ".join(words), kinds[kind][0]))
    model = write_model(tmp_path / "bert")
    command = ["synthesize", "--data", str(data), "--task", str(task), "--model", str(model), "--seeds", "1", "--json"]
    done = CliRunner().invoke(app, [*command, "--balance", "0.99", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert {"described", "unbalanced", "zero_gold"} <= told.keys()
    believed = json.loads((tmp_path / "out" / "card.json").read_text())["functions"]
    assert {"described kettle", "described ladder"} <= believed.keys()
    assert "described kettle" in (tmp_path / "out" / "labels.csv").read_text()
    refused = CliRunner().invoke(app, [*command[:5], "--balance", "1"])
    assert refused.exit_code == 1
    assert "--balance: must be from 0 to below 1" in refused.output


def test_a_description_is_text(tmp_path: Path) -> None:
    task = tmp_path / "kinds.toml"
    task.write_text(TASK.replace('"a red kettle for the kitchen"', "7"))
    with pytest.raises(TaskError, match="description: must be text"):
        read_task(str(task))
