import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.retriever import suggest
from services.retriever.columns import Columns
from services.retriever.suggest import NO_COMPLETIONS, Completions, Suggester, normal_form, phrases
from tests.unit.retriever.items import make_item


class Shop:
    """A table and its completions."""

    def __init__(self) -> None:
        self.columns = Columns()
        self.suggester = Suggester()
        self.completions: Completions = NO_COMPLETIONS

    def write(self, item_id: str, **fields: object) -> None:
        self.remove(item_id)
        self.columns.add(make_item(item_id, **fields))

    def remove(self, item_id: str) -> None:
        slot = self.columns.held(item_id)
        if slot:
            self.columns.end(slot)

    def complete(self, prefix: str, k: int = 10) -> list[tuple[str, int]]:
        while (fresh := self.suggester.refresh(self.columns.view())) is not None:
            self.completions = fresh
        return self.completions.complete(prefix, k)


def test_completes_brands_categories_and_phrases_of_titles() -> None:
    shop = Shop()
    shop.write("a", title="Wireless noise cancelling headphones", brand="Wirex", category_path=["Audio", "Wireless"])
    found = dict(shop.complete("wire"))
    assert found == {"Wirex": 1, "Wireless": 1, "wireless noise": 1, "wireless noise cancelling": 1}


def test_most_items_come_first_then_the_most_popular_then_by_text() -> None:
    shop = Shop()
    shop.write("a", title="red shoe", popularity=1)
    shop.write("b", title="red hat", popularity=9)
    shop.write("c", title="red cap", popularity=1)
    assert shop.complete("red") == [("red", 3), ("red hat", 1), ("red cap", 1), ("red shoe", 1)]
    assert shop.complete("red", 2) == [("red", 3), ("red hat", 1)]


def test_the_last_word_may_be_unfinished_and_case_and_accents_do_not_count() -> None:
    shop = Shop()
    shop.write("a", title="Café table", brand="Élan")
    assert shop.complete("CAFÉ t") == [("café table", 1)]
    assert shop.complete("  elA") == [("Élan", 1)]


def test_completions_have_the_marks_that_the_shop_writes() -> None:
    shop = Shop()
    shop.write("a", title="Grüner Tee für Männer, 100 g")
    shop.write("b", title="GRUNER Tee")
    for prefix in ("grün", "grun", "GRÜN"):
        assert shop.complete(prefix, 2) == [("grüner", 2), ("grüner tee", 2)]
    assert shop.complete("tee fur m") == [("tee für männer", 1)]
    shop.remove("a")
    assert shop.complete("grün", 2) == [("gruner", 1), ("gruner tee", 1)]


def test_a_brand_is_written_as_a_brand_however_titles_write_it() -> None:
    shop = Shop()
    for number in range(3):
        shop.write(f"i{number}", title="crème élan 50 ml")
    shop.write("b", title="Bürste", brand="Élan")
    assert shop.complete("ela") == [("Élan", 4), ("élan 50", 3), ("élan 50 ml", 3)]


def test_a_space_at_the_end_asks_for_the_next_word() -> None:
    shop = Shop()
    shop.write("a", title="red redwood")
    assert [text for text, _ in shop.complete("red ")] == ["red redwood"]


def test_chinese_is_completed_by_characters() -> None:
    shop = Shop()
    shop.write("a", title="男士运动鞋", category_path=["运动", "运动鞋"])
    shop.write("b", title="女士运动裤", category_path=["运动"])
    found = dict(shop.complete("运"))
    assert found["运动"] == 2
    assert found["运动鞋"] == 1
    assert dict(shop.complete("运动鞋")) == {"运动鞋": 1}


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("mug red", "red mug"),
        ("mug re", "red mug"),
        ("mug enamel red", "red enamel mug"),
        ("digital west", "Western Digital"),
        ("鞋 运动", "运动鞋"),
        ("headfones", "headphones"),
        ("hedph", "headphones"),
        ("hedphones wir", "wireless headphones"),
        ("wirless headph", "wireless headphones"),
        ("westren", "Western Digital"),
        ("wh1000", "wh-1000xm4"),
        ("tshi", "t-shirt"),
    ],
)
def test_words_in_another_order_misspelt_or_without_marks_are_completed(typed: str, text: str) -> None:
    shop = Shop()
    shop.write("mug", title="red enamel mug")
    shop.write("small", title="red mug")
    shop.write("phones", title="wireless headphones", brand="Western Digital")
    shop.write("model", title="sony wh-1000xm4")
    shop.write("shirt", title="t-shirt")
    shop.write("shoe", title="运动鞋")
    assert text in dict(shop.complete(typed))


def test_what_begins_as_typed_comes_before_all_else() -> None:
    shop = Shop()
    shop.write("a", title="lamp red")
    for number in range(3):
        shop.write(f"b{number}", title="red lamp")
    assert shop.complete("lamp red") == [("lamp red", 1), ("red lamp", 3)]
    shop.write("c", title="lamb")
    assert [text for text, _ in shop.complete("lamb")] == ["lamb"]


def test_numbers_are_not_corrected() -> None:
    shop = Shop()
    shop.write("a", title="wh-1000xm4")
    shop.write("b", title="model 1234567")
    assert shop.complete("wh-1000xm5") == []
    assert shop.complete("1234568") == []


@given(
    st.lists(st.tuples(st.sampled_from(["red lamp", "lamps", "wi-fi", "鞋", "kettle"]), st.booleans()), max_size=8),
    st.text(max_size=8),
)
def test_nothing_is_completed_that_cannot_be_seen(items: list[tuple[str, bool]], typed: str) -> None:
    shop = Shop()
    for number, (title, visible) in enumerate(items):
        shop.write(f"i{number}", title=title, visible=visible)
    for prefix in (typed, "lamp", "lamq", "wifi", "lamp red", "ketle"):
        for text, count in shop.complete(prefix):
            seen = [title for title, visible in items if visible and text in dict(phrases(title))]
            assert count == len(seen) > 0


def test_only_visible_items_count_and_changes_follow() -> None:
    shop = Shop()
    shop.write("a", title="lamp")
    shop.write("b", title="lamp", visible=False)
    assert shop.complete("lam") == [("lamp", 1)]
    shop.write("b", title="lamp")
    assert shop.complete("lam") == [("lamp", 2)]
    shop.remove("a")
    shop.write("b", title="chair")
    assert shop.complete("lam") == []
    assert shop.complete("cha") == [("chair", 1)]


def test_written_as_most_items_write_it() -> None:
    shop = Shop()
    for number, brand in enumerate(["ACME", "Acme", "Acme"]):
        shop.write(f"i{number}", title="thing", brand=brand)
    assert shop.complete("acm") == [("Acme", 3)]
    shop.remove("i1")
    shop.remove("i2")
    assert shop.complete("acm") == [("ACME", 1)]


def test_counts_stay_true_over_rounds_and_a_compaction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suggest, "ROUND_SLOTS", 3)
    shop = Shop()
    for number in range(10):
        shop.write(f"i{number}", title="blue lamp")
    shop.suggester.refresh(shop.columns.view())
    shop.suggester.refresh(shop.columns.view())
    shop.remove("i0")
    shop.remove("i9")
    shop.write("i1", title="green lamp")
    view = shop.columns.view()
    fresh, moved = shop.columns.compacted(view)
    shop.suggester.move(view, moved, fresh)
    shop.columns = fresh
    assert dict(shop.complete("b")) == {"blue": 7, "blue lamp": 7}
    shop.remove("i2")
    assert dict(shop.complete("lamp")) == {"lamp": 7}


def test_far_behind_new_completions_wait_until_they_are_worth_sorting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suggest, "ROUND_SLOTS", 3)
    monkeypatch.setattr(suggest, "MAX_UNSORTED_SHARE", 100)
    shop = Shop()
    for number in range(9):
        shop.write(f"i{number}", title="blue lamp" if number < 4 else "red kettle")
    found = [shop.suggester.refresh(shop.columns.view()) for _ in range(4)]
    assert [each.complete("blu", 1) for each in found if each] == [[("blue", 2)], *[[("blue", 4)]] * 3]
    assert [each.complete("ket", 1) for each in found if each] == [[], [], [], [("kettle", 5)]]


def test_what_one_item_alone_has_is_forgotten_when_there_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suggest, "MAX_COMPLETIONS", 5)
    shop = Shop()
    for number in range(6):
        shop.write(f"i{number}", title=f"lamp w{number}x")
    assert shop.complete("lamp") == [("lamp", 6)]
    shop.write("i7", title="lamp")
    assert shop.complete("lamp") == [("lamp", 7)]


def test_phrases_do_not_cross_breaks_nor_end_in_joining_words() -> None:
    assert set(dict(phrases("Bag for men, black"))) == {"bag", "bag for men", "men", "black"}


@pytest.mark.parametrize(("text", "form"), [(" Red  SHOE", "red shoe"), ("red ", "red "), ("鞋 ", "鞋"), ("  ", "")])
def test_normal_form(text: str, form: str) -> None:
    assert normal_form(text) == form
