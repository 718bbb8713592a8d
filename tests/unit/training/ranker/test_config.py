"""Settings of the ranker's training are refused by name."""

from pathlib import Path

import pytest

from training.ranker.config import ConfigError, RankerConfig, read_config


def test_what_is_given_goes_over_the_file_over_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "ranker.toml"
    file.write_text("learning_rate = 0.01\nepochs = 3\n")
    assert read_config(file, epochs=5, seed=None) == RankerConfig(learning_rate=0.01, epochs=5)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("layer = 2", "layer: unknown; known: dim, layers"),
        ("epochs = 2.5", "epochs: must be a whole number, not 2.5"),
        ("epochs = 0", "epochs: must be above 0"),
        ("dropout = 1", "dropout: must be from 0 to below 1"),
        ("heads = 3", "heads: must divide dim, 64, not 3"),
        ("minutes = 'x'", "minutes: must be a number"),
        ("objective = 'best'", "objective: must be one of plain, policy, not 'best'"),
        ("objective = 1", "objective: must be one of plain, policy, not 1"),
        ("=", "ranker.toml"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "ranker.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=problem):
        read_config(file)
