"""What the demo takes for a query that an encoder of Latin letters cannot read."""

import pytest

from demo.search import has_chinese


@pytest.mark.parametrize(
    ("text", "chinese"),
    [("red mug", False), ("grüner Stuhl 🎁 für 5 €", False), ("连衣裙", True), ("PYREX 烧杯", True)],
)
def test_only_chinese_letters_are_chinese(text: str, chinese: bool) -> None:
    assert has_chinese(text) is chinese
