"""The text of an item follows its template; scripts are told apart."""

import pytest

from services.domain.text import TextTemplate, item_text, scripts_of
from souk.types.v1 import types_pb2

ITEM = types_pb2.Item(
    title="Mug",
    brand="Acme",
    category_path=["Home", "Kitchen"],
    attributes=[types_pb2.Attribute(name="colour", values=["red", "blue"])],
    description="For tea.",
)


def test_fields_are_joined_in_order() -> None:
    assert item_text(ITEM, TextTemplate()) == "Mug. Acme. Home, Kitchen. colour red blue. For tea."


def test_empty_fields_leave_no_trace() -> None:
    assert item_text(types_pb2.Item(title="Mug"), TextTemplate()) == "Mug"


def test_a_field_is_cut_at_its_limit() -> None:
    assert item_text(ITEM, TextTemplate(fields=(("description", 3), ("title", 9)))) == "For. Mug"


def test_a_template_survives_json() -> None:
    template = TextTemplate(fields=(("title", 5),), query_prefix="query: ")
    assert TextTemplate.from_json(template.to_json()) == template


def test_a_template_with_an_unknown_field_is_refused() -> None:
    values = TextTemplate().to_json() | {"fields": [["colour", 5]]}
    with pytest.raises(ValueError, match="an item has no field 'colour'"):
        TextTemplate.from_json(values)


def test_scripts_are_shares_of_letters() -> None:
    assert scripts_of("abc 耳机, é 123!") == pytest.approx({"latin": 4 / 6, "han": 2 / 6})
    assert scripts_of("12 %") == {}
    assert set(scripts_of("при")) == {"cyrillic"}
