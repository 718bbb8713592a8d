"""Validation finds every kind of bad row and says where."""

import json
from pathlib import Path

from typer.testing import CliRunner

from training.data.canonical import Dataset
from training.data.cli import app
from training.data.validate import validate

INFO = {"format": 1, "name": "toy", "version": "1", "origin": "", "licence": "", "counts": {"items": 9}}


def broken(directory: Path) -> Path:
    (directory / "dataset.json").write_text(json.dumps(INFO))
    (directory / "items.csv").write_text("item_id,title,price,currency\nA,a,1,EUR\nA,b,1,EUR\nB,b,x,EUR\nC,c,1,euro\n")
    (directory / "shoppers.csv").write_text("shopper_id\ns\ns\n")
    (directory / "events.csv").write_text(
        "event_id,shopper_id,type,item_id,time\n1,s,VIEW,A,2025-01-01\n1,s,VIEW,A,\n2,s,VIEW,Z,\n3,t,VIEW,A,\n4,s,VIEW,A,\n"
    )
    (directory / "judgements.csv").write_text("query,item_id,grade\nq,A,3\nq,A,2\nq,Z,1\nq,A,-9\n")
    (directory / "impressions.csv").write_text(
        "request_id,item_id,position,propensity,shopper_id\nr,A,0,1,s\nr,A,0,1,s\nr,A,1,0,s\nr,Z,2,1,s\nr,A,3,1,t\nq,A,0,.5,\n"
    )
    return directory


def test_every_kind_of_bad_row_is_counted(tmp_path: Path) -> None:
    report = validate(broken(tmp_path))
    assert report.counts == {"items": 1, "shoppers": 1, "events": 2, "judgements": 1, "impressions": 2}
    assert report.bad == {
        ("items", "seen before"): 1,
        ("items", "price"): 1,
        ("items", "item.currency"): 1,
        ("items", "dataset.json counts other rows"): 1,
        ("shoppers", "seen before"): 1,
        ("events", "seen before"): 1,
        ("events", "item_id is not in the catalogue"): 1,
        ("events", "shopper_id is not among the shoppers"): 1,
        ("events", "time is given in some rows only"): 1,
        ("judgements", "seen before"): 1,
        ("judgements", "item_id is not in the catalogue"): 1,
        ("judgements", "grade"): 1,
        ("impressions", "seen before"): 1,
        ("impressions", "propensity"): 1,
        ("impressions", "item_id is not in the catalogue"): 1,
        ("impressions", "shopper_id is not among the shoppers"): 1,
    }
    assert report.examples["items", "price"] == ["items.csv, row 3, price: must be a finite number, not 'x'"]
    assert report.effects is None


def test_the_command_says_it_and_fails(tmp_path: Path, shop: Dataset) -> None:
    said = CliRunner().invoke(app, ["validate", str(broken(tmp_path))], env={"COLUMNS": "200"})
    assert said.exit_code == 1
    assert "items.csv, row 3, price" in said.output
    said = CliRunner().invoke(app, ["validate", str(shop.path)], env={"COLUMNS": "200"})
    assert said.exit_code == 0
    assert "popularity gini" in said.output
