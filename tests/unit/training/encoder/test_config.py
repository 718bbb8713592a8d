"""Settings are refused by name and with their limit."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from training.encoder.config import ConfigError, TrainConfig


@dataclass(frozen=True)
class Sized(TrainConfig):
    """With a list and a flag."""

    sizes: tuple[int, ...] = (1, 2)
    flag: bool = False

    RANGES = {"sizes": (1, 9)}  # noqa: RUF012


def test_what_is_given_goes_over_the_file_over_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "one.toml"
    file.write_text("learning_rate = 1\nsteps = 3\nsizes = [4]\nflag = true\n")
    assert Sized.read(file, steps=5, seed=None) == Sized(learning_rate=1.0, steps=5, sizes=(4,), flag=True)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("step = 2", "step: unknown; known: steps, batch"),
        ("steps = 2.5", "steps: must be a whole number, not 2.5"),
        ("steps = true", "steps: must be a whole number, not True"),
        ("steps = 0", r"steps: must be from 1 to 1e\+07, not 0"),
        ("warm_up = 1", "warm_up: must be from 0 to 0.9, not 1"),
        ("learning_rate = nan", "learning_rate: must be from"),
        ("optimiser = 'adam'", "optimiser: must be one of adamw, sgd, not 'adam'"),
        ("sizes = 3", "sizes: must be a list, not 3"),
        ("sizes = [1, 10]", "sizes: must be from 1 to 9, not 10"),
        ("flag = 1", "flag: must be true or false, not 1"),
        ("=", "one.toml"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "one.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=problem):
        Sized.read(file)
