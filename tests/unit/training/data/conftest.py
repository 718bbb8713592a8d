"""A small generated shop for all tests of training data."""

from pathlib import Path

import pytest

pytest.importorskip("polars")
from training.data.canonical import Dataset, open_dataset
from training.data.generate import generate


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    out = tmp_path_factory.mktemp("shop") / "dataset"
    generate(out, items=3000, shoppers=700, seed=11)
    return open_dataset(out)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Where real data lie; the test is skipped where they do not."""
    from training.data.cli import real_data as find

    root = find()
    if root is None or not root.is_dir():
        pytest.skip("no real data: SOUK_DATA is not set and ../shared/data does not exist")
    return root
