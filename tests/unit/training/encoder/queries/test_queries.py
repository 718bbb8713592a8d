"""Synthetic queries: the shop's own words, the same every time, and only those that lead back to what they are of."""

from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.domain.words import analyse
from souk.types.v1 import types_pb2
from training.encoder.cli import app
from training.encoder.pairs import Pair, read_pairs
from training.encoder.queries.make import consistent, make_queries
from training.encoder.queries.round_trip import Found, RoundTrip
from training.encoder.queries.wording import Wording, pieces, typed

COLOURS, BRANDS = ("black", "white", "red", "green"), ("Sony", "Bose", "Akai")


def item(item_id: str, title: str, brand: str, category: str = "", **attributes: str) -> types_pb2.Item:
    return types_pb2.Item(
        id=item_id,
        title=title,
        brand=brand,
        category_path=[category] if category else [],
        attributes=[types_pb2.Attribute(name=name, values=[value]) for name, value in attributes.items()],
    )


def shop() -> list[types_pb2.Item]:
    made = []
    for number, (brand, colour) in enumerate((brand, colour) for brand in BRANDS for colour in COLOURS):
        made.append(
            item(f"h{number}", f"{brand} WH-{number}00XM wireless headphones {colour}", brand, "", colour=colour)
        )
        made.append(item(f"c{number}", f"{brand} {number + 1} m speaker cable, {colour}", brand, "", colour=colour))
        made.append(item(f"z{number}", f"{brand} 无线蓝牙耳机 {number}00", brand, "耳机", 颜色="黑色"))
    return made


def made(items: list[types_pb2.Item], seed: int = 1, together: list[tuple[str, str]] | None = None) -> list[Pair]:
    return make_queries(items, together or [], 6, seed, lambda done, total: None).pairs


def test_words_of_a_shop_are_told_apart() -> None:
    wording = Wording.of(shop())
    assert set(COLOURS) <= wording.describing
    assert wording.units == {"m"}
    assert wording.kinds[0][0] == ("wireless", "headphones")
    assert wording.kinds[1][0] == ("speaker", "cable")
    assert wording.kinds[2][0] == ("耳机",)


def test_chinese_is_typed_without_spaces() -> None:
    (words,) = pieces("无线蓝牙耳机 Sony 黑色")
    assert len(words) > 3
    assert typed(words) == "无线蓝牙耳机 sony 黑色"


def test_every_word_is_the_items_own_and_every_pair_says_where_it_is_from() -> None:
    items = {one.id: one for one in shop()}
    pairs = made(list(items.values()))
    for pair in pairs:
        own = items[pair.item_id]
        text = " ".join([own.title, own.brand, *own.category_path, *(v for a in own.attributes for v in a.values)])
        assert set(pieces_of(pair.query)) <= set(pieces_of(text)), pair
        assert pair.grade in (1.0, 2.0, 3.0)
    assert {pair.source for pair in pairs} == {"synthetic:title", "synthetic:attributes", "synthetic:category"}
    assert {pair.item_id for pair in pairs} == set(items)
    assert len({(pair.query, pair.item_id) for pair in pairs}) == len(pairs)


def pieces_of(text: str) -> list[str]:
    return [
        letter for piece in pieces(text) for word in piece for letter in (word if ord(word[0]) > 0x3000 else [word])
    ]


def test_the_same_seed_makes_the_same_in_any_order_and_another_seed_others() -> None:
    items = shop()
    assert made(items) == made(items[::-1])
    assert made(items) != made(items, seed=2)


def test_a_model_number_singles_out_and_a_kind_does_not() -> None:
    grades = {pair.query: pair.grade for pair in made(shop()) + made(shop(), seed=2) + made(shop(), seed=3)}
    assert grades["wh-300xm"] == 3
    assert grades["耳机"] == 2


def test_items_that_are_not_shown_are_not_asked_for() -> None:
    items = shop()
    items[0].visible = False
    assert "h0" not in {pair.item_id for pair in made(items)}


def test_a_query_that_leads_elsewhere_is_dropped() -> None:
    items = [item(f"k{i}", f"kettle {i}", "Akai", "kettles") for i in range(30)]
    # Its words are all its own, and yet thirty kettles say "kettle" in fewer words.
    items.append(item("odd", "gift wrap for a kettle or a mug or a teapot or a lamp", "Bose", "wrap"))
    wording, search = Wording.of(items), RoundTrip(items)
    assert not consistent(search.find("kettle", 10), 30, wording.kinds)
    assert consistent(search.find("gift wrap", 10), 30, wording.kinds)
    results = [make_queries(items, [], 50, seed, lambda done, total: None) for seed in range(5)]
    assert sum(result.dropped for result in results)
    asked = {pair.query for result in results for pair in result.pairs if pair.item_id == "odd"}
    assert "wrap" in asked
    assert "kettle" not in asked


def test_of_a_kind_is_as_good_as_the_item_itself_but_only_among_a_whole_page() -> None:
    kinds = [(("mug",),)] * 12 + [(("lamp",),)]
    assert consistent(Found(tuple(range(10)), 11), 11, kinds)
    assert not consistent(Found(tuple(range(10)), 11), 12, kinds)
    assert not consistent(Found((0,), 1), 11, kinds)


def test_the_round_trip_ranks_the_title_first_and_counts_who_holds_all() -> None:
    items = [
        types_pb2.Item(id="a", title="red mug"),
        types_pb2.Item(id="b", title="blue mug", description="not red"),
        types_pb2.Item(id="c", title="lamp"),
    ]
    found = RoundTrip(items).find("red mug", 2)
    assert found == Found((0, 1), 2)
    assert RoundTrip(items).find("teapot", 2) == Found((), 0)
    assert set(analyse("red mug")) == {"red", "mug"}


def test_items_met_together_lend_each_other_their_broadest_query() -> None:
    items = shop()
    pairs = [p for p in made(items, together=[("h0", "h1"), ("h0", "c1")]) if p.source == "synthetic:copurchase"]
    # A cable is no answer to a question for headphones, however often both are bought.
    assert {pair.item_id for pair in pairs} <= {"h1"}
    assert all(pair.grade == 1 for pair in pairs)
    assert pairs


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    from souk.dataset import item_row
    from training.data.canonical import DatasetWriter, Info

    with DatasetWriter(tmp_path / "shop", Info("shop", "1", "made up", "none")) as writer:
        writer.write("items", [item_row(one) for one in shop()])
        events = [("s1", "h0"), ("s1", "h1"), ("s2", "h0"), ("s2", "h1"), ("s3", "h0"), ("s3", "c5")]
        writer.write(
            "events",
            [
                {"event_id": f"e{n}", "shopper_id": s, "type": "VIEW", "order": n, "item_id": i}
                for n, (s, i) in enumerate(events)
            ],
        )
    return tmp_path / "shop"


def test_the_command_writes_pairs_and_says_what_is_next(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs.parquet"
    arguments = ["queries", "--dataset", str(dataset), "--out", str(out), "--per-item", "3"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "next: python -m training encoder finetune" in result.output
    pairs = read_pairs(out)
    assert {pair.item_id for pair in pairs if pair.source == "synthetic:copurchase"} == {"h0", "h1"}
    kept = Counter(pair.item_id for pair in pairs if pair.source != "synthetic:copurchase")
    assert max(kept.values()) == 3
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 1
    assert "exists already" in again.output
