"""What a task and its file must fulfil, and the commands on them."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.unit.training.labels.test_synthesis import planted
from training.cli import app
from training.labels.task import SHIPPED, TaskError, read_gold, read_task, read_texts

MINE = """
text = ["text"]
label = "mood"
[[classes]]
name = "good"
value = "1"
words = ["love", "great"]
[[classes]]
name = "bad"
value = "0"
words = ["awful", "poor"]
"""


@pytest.fixture
def task(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    return path


def table(path: Path, header: list[str], rows: list[list[str]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_tasks_are_read_and_have_at_most_20_words_a_class(path: Path) -> None:
    assert all(len(one.words) <= 20 for one in read_task(path.stem).classes)


@pytest.mark.parametrize(
    ("was", "now", "problem"),
    [
        ('label = "mood"', "", "label: must name the column"),
        ('text = ["text"]', "", "text: must name at least one column"),
        ('"awful", "poor"', "", "classes, bad, words: 1 to 20 are allowed, not 0"),
        ('"awful", "poor"', ",".join(f'"w{i}"' for i in range(21)), "1 to 20 are allowed, not 21"),
        ('name = "bad"', 'name = "good"', "two have the same name"),
        ('value = "0"', 'value = "0"\nopposite = "worse"', "'worse' is no class"),
        ('value = "0"', 'value = "0"\nshare = 1.5', "share: must be above 0 and below 1"),
        ('value = "0"', 'value = "0"\nshare = 0.5', "all classes have one, or none has"),
        ('value = "0"', 'value = "0"\nwidth = 3', "width: unknown"),
        ('label = "mood"', 'label = "mood"\nprompt = "It was [MASK]."', r"prompt: must be text with \{text\} once"),
        ('value = "0"', 'value = "0"\nverbalisers = "bad"', "classes, bad, verbalisers: must be a list of text"),
    ],
)
def test_a_task_is_refused_with_the_field_and_its_limit(task: Path, was: str, now: str, problem: str) -> None:
    task.write_text(MINE.replace(was, now))
    with pytest.raises(TaskError, match=problem):
        read_task(str(task))


def test_rows_without_text_are_left_out_and_labels_may_be_missing(task: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "d.csv", ["text", "mood"], [["a", "1"], ["", "1"], ["b", ""]])
    texts = read_texts(data, read_task(str(task)))
    assert (texts.text, texts.label.tolist(), texts.row.tolist()) == (("a", "b"), [0, -1], [1, 3])
    with pytest.raises(TaskError, match=r"d\.csv, row 1, mood: '7' is none of 1, 0"):
        read_texts(table(data, ["text", "mood"], [["a", "7"]]), read_task(str(task)))


def test_answers_may_say_the_value_or_the_name(task: Path, tmp_path: Path) -> None:
    gold = table(tmp_path / "g.csv", ["row", "mood"], [["4", "bad"], ["2", "1"], ["9", ""]])
    assert read_gold(gold, read_task(str(task))) == {4: 1, 2: 0}


def test_labels_are_written_with_where_they_are_from_and_answers_taken(task: Path, tmp_path: Path) -> None:
    texts, truth = planted(300)
    data = table(tmp_path / "d.csv", ["text"], [[text] for text in texts])
    run = CliRunner().invoke
    command = ["synthesize", "--data", str(data), "--task", str(task), "--ask", "5"]
    first = run(app, [*command, "--out", str(tmp_path / "first")])
    assert first.exit_code == 0, first.output
    with (tmp_path / "first" / "labels.csv").open() as file:
        labels = list(csv.DictReader(file))
    counts = Counter(row["mood"] for row in labels)
    assert f"{len(labels):,} labels (good {counts['1']}, bad {counts['0']})" in first.output
    assert json.loads((tmp_path / "first" / "card.json").read_text())["labels"] == {
        "good": counts["1"],
        "bad": counts["0"],
    }
    right = np.mean([row["mood"] == str(1 - label) for row, label in zip(labels, truth.tolist(), strict=True)])
    assert right > 0.9
    assert {row["source"] for row in labels} == {"functions", "student"}
    assert all((row["source"] == "functions") == bool(row["functions"]) for row in labels)

    with (tmp_path / "first" / "ask.csv").open() as file:
        asked = [int(row["row"]) for row in csv.DictReader(file)]
    assert len(set(asked)) == 5
    answers = table(tmp_path / "a.csv", ["row", "mood"], [[str(row), str(1 - truth[row - 1])] for row in asked])
    second = run(app, [*command, "--gold", str(answers), "--out", str(tmp_path / "second"), "--json"])
    assert second.exit_code == 0, second.output
    told = json.loads(second.stdout)
    assert told["gold"]["texts"] == told["calibration"]["answers"] == 5
    card = json.loads((tmp_path / "second" / "card.json").read_text())
    assert card["calibration"] == told["calibration"]
    assert 0.5 < card["calibration"]["temperature"] < 2
    with (tmp_path / "second" / "labels.csv").open() as file:
        gold = [int(row["row"]) for row in csv.DictReader(file) if row["source"] == "gold"]
    assert sorted(gold) == sorted(asked)


def test_measures_of_a_labelled_file_are_json(task: Path, tmp_path: Path) -> None:
    texts, truth = planted(300)
    rows = [[text, str(1 - label)] for text, label in zip(texts, truth.tolist(), strict=True)]
    data = table(tmp_path / "d.csv", ["text", "mood"], rows)
    told = CliRunner().invoke(app, ["synthesize", "--data", str(data), "--task", str(task), "--seeds", "1", "--json"])
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert {"accuracy", "macro_f1", "ece"} <= found["zero_gold"].keys()
    assert min(found[one]["accuracy"] for one in ("zero_gold", "gold_32", "full")) > 0.9
    # A temperature changes how sure a label is, not which.
    assert found["calibrated"]["accuracy"] == found["written"]["accuracy"]
    refused = CliRunner().invoke(app, ["synthesize", "--data", str(data), "--task", str(task), "--focal", "9"])
    assert refused.exit_code
    assert "--focal: must be from 0 to 5, not 9" in refused.output

    for row in rows[:10]:
        row[1] = str(1 - int(row[1]))
    table(data, ["text", "mood"], rows)
    out = tmp_path / "suspects.csv"
    checked = CliRunner().invoke(
        app, ["check-labels", "--data", str(data), "--task", str(task), "--injected", "0", "--out", str(out)]
    )
    assert checked.exit_code == 0, checked.output
    with out.open() as file:
        doubted = list(csv.DictReader(file))
    assert len({str(row) for row in range(1, 11)} & {row["row"] for row in doubted}) > 6
    assert all(row["probably"] != row["mood"] for row in doubted)
    assert [float(row["confidence"]) for row in doubted] == sorted(
        (float(r["confidence"]) for r in doubted), reverse=True
    )


def test_what_cannot_be_learned_from_is_refused_in_words(tmp_path: Path) -> None:
    task, data = tmp_path / "mood.toml", tmp_path / "data.csv"
    task.write_text(MINE)
    run = CliRunner().invoke
    table(data, ["text", "mood"], [["love it", "1"]])
    few = run(app, ["synthesize", "--data", str(data), "--task", str(task), "--out", str(tmp_path / "no")])
    assert few.exit_code == 1
    assert "1 texts are too few or too unlike: no word is in 3 of them" in " ".join(few.output.split())
    table(data, ["text", "mood"], [[f"love it, great {row % 7}", "1"] for row in range(150)])
    same = run(app, ["check-labels", "--data", str(data), "--task", str(task), "--out", str(tmp_path / "no.csv")])
    assert same.exit_code == 1
    assert "all labels in mood are the same" in " ".join(same.output.split())
    assert not (tmp_path / "no").exists()
    assert not (tmp_path / "no.csv").exists()


def test_two_answers_to_one_text_must_agree(tmp_path: Path) -> None:
    (tmp_path / "mood.toml").write_text(MINE)
    task, gold = read_task(str(tmp_path / "mood.toml")), tmp_path / "gold.csv"
    table(gold, ["row", "mood"], [["1", "1"], ["2", ""], ["1", "good"]])
    assert read_gold(gold, task) == {1: 0}
    table(gold, ["row", "mood"], [["1", "1"], ["2", "0"], ["1", "0"]])
    with pytest.raises(TaskError, match="row 3: row 1 has another answer already"):
        read_gold(gold, task)
