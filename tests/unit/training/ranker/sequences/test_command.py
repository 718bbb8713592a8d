"""The command refuses by name what does not go together, before it reads or writes anything."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from training.train_cli import app


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ([], "exactly one of --dataset and --sequences"),
        (["--dataset", "d", "--bundle", "b", "--sequences", "s"], "exactly one of --dataset and --sequences"),
        (["--dataset", "d"], "--bundle: is missing"),
        (["--sequences", "s", "--config", "c", "--minutes", "3"], "--config, --minutes: goes with --dataset"),
        (["--sequences", "s", "--bundle", "b"], "--bundle: goes with --items"),
        (["--dataset", "d", "--bundle", "b", "--items", "i", "--json"], "--items, --json: goes with --sequences"),
    ],
)
def test_forms_do_not_mix(tmp_path: Path, given: list[str], problem: str) -> None:
    result = CliRunner().invoke(app, ["ranker", *given, "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert problem in result.output
    assert not list(tmp_path.iterdir())


def test_a_bad_line_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "sequences.txt"
    file.write_text("a x y z\nb x\n")
    result = CliRunner().invoke(app, ["ranker", "--sequences", str(file), "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "line 2: shopper b has 1 items; the limit is 3" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["sequences.txt"]
