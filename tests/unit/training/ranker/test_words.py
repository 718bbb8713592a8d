"""What training takes for the scores of words is what the retriever says."""

import numpy as np
import pytest

from services.retriever.columns import Columns
from services.retriever.lexical import Lexical, words_of
from souk.types.v1 import types_pb2
from training.ranker.words import Words

ITEMS = [
    types_pb2.Item(id="a", title="Red floor lamp", brand="Acme", category_path=["Home", "Lamps"]),
    types_pb2.Item(id="b", title="Blue shoes", description="Shoes for running. Red soles."),
    types_pb2.Item(
        id="c", title="Lamp lamp", attributes=[types_pb2.Attribute(name="colour", values=["red"])], brand="Red"
    ),
    types_pb2.Item(id="d"),
]


@pytest.mark.parametrize(
    "query",
    ["red", "red lamp", "running shoes shoes", "acme", "red acme lamp", "lamp for running", "unheard of", ""],
)
def test_as_the_retriever_says(query: str) -> None:
    columns, lexical = Columns(), Lexical()
    for item in ITEMS:
        lexical.add(columns.add(item), words_of(item))
    view = columns.view()
    slots, scores, *_ = lexical.view().search(query, view.shown, view, 10)
    expected = {columns.ids[slot]: score for slot, score in zip(slots.tolist(), scores.tolist(), strict=True)}
    ours = Words(ITEMS).scores(query)
    found = {item.id: score for item, score in zip(ITEMS, ours.tolist(), strict=True) if not np.isnan(score)}
    assert found == pytest.approx(expected, rel=1e-4)
