"""The data commands: what they write, and what they say when they cannot."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from training.cli import app
from training.data.canonical import Dataset, DatasetWriter, Info, open_dataset

WIDE = {"COLUMNS": "200"}


def test_generate_writes_a_dataset(tmp_path: Path) -> None:
    out = tmp_path / "shop"
    arguments = ["generate", "--items", "200", "--shoppers", "20", "--seed", "3", "--out", str(out)]
    said = CliRunner().invoke(app, arguments, env=WIDE)
    assert said.exit_code == 0, said.output
    assert open_dataset(out).info.generator == {"version": "1", "items": 200, "shoppers": 20, "seed": 3}
    assert "200 items" in said.output
    assert f"next: python -m training quality --data {out}" in said.output
    again = CliRunner().invoke(app, arguments, env=WIDE)
    assert again.exit_code == 2
    assert "exists already" in again.output


def test_effects_stand_beside_the_real_ones_where_these_are(shop: Dataset, tmp_path: Path) -> None:
    (tmp_path / "amazon_beauty_2014").mkdir()
    (tmp_path / "amazon_beauty_2014" / "sequences.txt").write_text("1 1 2 3\n2 2 4\n")
    said = CliRunner().invoke(app, ["data", "effects", str(shop.path)], env={**WIDE, "SOUK_DATA": str(tmp_path)})
    assert said.exit_code == 0, said.output
    assert "Amazon Beauty" in said.output
    assert "repeat rate" in said.output


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["csv", "--source", "."], "--mapping goes with csv"),
        (["csv"], "--source is missing"),
        (["online-retail", "--source", "nowhere"], "neither raw/"),
        (["chorus-icecat", "--source", "nowhere"], "no such file"),
    ],
)
def test_a_load_that_cannot_be_done_says_why(tmp_path: Path, arguments: list[str], problem: str) -> None:
    said = CliRunner().invoke(app, ["data", "load", *arguments, "--out", str(tmp_path / "out")], env=WIDE)
    assert said.exit_code == 2
    assert problem in said.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["train", "ranker", "--dataset"],
        ["evaluate", "ranker", "--data"],
        ["evaluate", "coldstart", "--data"],
        ["evaluate", "fairness", "--data"],
        ["synthesize-pairs", "--dataset"],
    ],
)
def test_what_needs_events_refuses_a_catalogue_alone(tmp_path: Path, command: list[str]) -> None:
    with DatasetWriter(tmp_path / "shop", Info("shop", "1", "made up", "CC0-1.0")) as writer:
        writer.write("items", [{"item_id": "a", "title": "Mug"}])
    given = [*command, str(tmp_path / "shop"), "--out", str(tmp_path / "out")]
    if command[0] != "synthesize-pairs":
        given += ["--bundle", str(tmp_path / "bundle")]
    said = CliRunner().invoke(app, given, env=WIDE)
    assert said.exit_code == 1, said.output
    assert "has no events" in said.output
    assert not (tmp_path / "out").exists()


def test_quality_of_a_catalogue_alone_names_what_it_can_train(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "shop", Info("shop", "1", "made up", "CC0-1.0")) as writer:
        writer.write("items", [{"item_id": "a", "title": "Mug"}])
    said = CliRunner().invoke(
        app, ["quality", "--data", str(tmp_path / "shop"), "--out", str(tmp_path / "out")], env=WIDE
    )
    assert said.exit_code == 0, said.output
    assert "next: python -m training train coldstart" in said.output
