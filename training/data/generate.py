"""The generated shop as a canonical dataset: the same arguments give byte-identical files, in bounded memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from souk.types.v1 import types_pb2
from training.data import lexicon
from training.data.behaviour import BRAND, COLOUR, EXACT, Events, Pool, simulate
from training.data.canonical import SCHEMAS, DatasetWriter, Info
from training.data.queries import Judged, judgements, query_text
from training.data.shown import Pages, place_odds
from training.data.wording import CURRENCY, ITEM_CHUNK, Words, item_rows, moments, shopper_id
from training.data.world import (
    GENERATOR_VERSION,
    LEAVES,
    SHOPPER_BLOCK,
    Catalogue,
    Ints,
    Market,
    Shoppers,
    draw_catalogue,
    draw_market,
    draw_shoppers,
    item_style,
    stream,
)

ITEMS = (100, 5_000_000)
SHOPPERS = (1, 5_000_000)
TRUTH = "truth"
_JUDGEMENT_BATCH = 50_000

# Called with the table, rows done and rows to do.
OnProgress = Callable[[str, int, int], None]


def generate(
    out: Path, items: int, shoppers: int, seed: int, on_progress: OnProgress | None = None, impressions: bool = False
) -> None:
    """Write the shop of `seed` into the dataset directory `out`, its latent truth beside it in `out`/truth.

    With `impressions` also what was shown on every page and with which propensity, and in truth/impressions the
    chance of a click once looked at; the other tables stay the same.
    Raises ValueError naming the argument out of bounds, DatasetError where `out` exists.
    """
    for name, value, (low, high) in (("items", items, ITEMS), ("shoppers", shoppers, SHOPPERS)):
        if not low <= value <= high:
            raise ValueError(f"{name}: {value}; it must be {low} to {high}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed: {seed}; it must be 0 to {2**32 - 1}")
    info = Info(
        name="generated-shop",
        version=GENERATOR_VERSION,
        origin="generated",
        licence="CC0-1.0",
        generator={"version": GENERATOR_VERSION, "items": items, "shoppers": shoppers, "seed": seed},
        notes=("popularity counts sales before the log begins", f"no trainer may read {TRUTH}/"),
    )
    tell = on_progress or (lambda table, done, total: None)
    with DatasetWriter(out, info) as writer:
        (writer.directory / TRUTH).mkdir()
        market, catalogue = draw_market(seed), draw_catalogue(seed, items)
        _write_items(writer, seed, market, catalogue, tell)
        _write_shoppers_and_events(writer, seed, market, catalogue, shoppers, impressions, tell)
        _write_judgements(writer, seed, catalogue, tell)


def _write_items(writer: DatasetWriter, seed: int, market: Market, catalogue: Catalogue, tell: OnProgress) -> None:
    """Items in the order of their shuffled numbers, so that neither number nor place says anything."""
    order = np.argsort(catalogue.number)
    truth: Any = None
    for chunk, first in enumerate(range(0, len(order), ITEM_CHUNK)):
        items = order[first : first + ITEM_CHUNK]
        rows = item_rows(seed, catalogue, chunk, items)
        for row, created in zip(rows, moments(catalogue.created[items]).tolist(), strict=True):
            row["created_at"] = created
        writer.write("items", rows)
        table = pa.table(
            {
                "item_id": _ids("I", catalogue.number[items], 7),
                "leaf": _taken([leaf.path[2][0] for leaf in LEAVES], catalogue.group[items] // 2),
                "language": _taken(["en", "zh"], catalogue.group[items] % 2),
                "style": item_style(market, catalogue, items).tolist(),
                "price_level": catalogue.price_level[items],
                "quality": catalogue.quality[items],
                "weight": catalogue.weight[items],
            }
        )
        truth = truth or parquet.ParquetWriter(writer.directory / TRUTH / "items.parquet", table.schema)
        truth.write_table(table)
        tell("items", first + len(items), len(order))
    truth.close()


def _write_shoppers_and_events(
    writer: DatasetWriter,
    seed: int,
    market: Market,
    catalogue: Catalogue,
    count: int,
    impressions: bool,
    tell: OnProgress,
) -> None:
    pool, words = Pool(catalogue), Words(catalogue, seed)
    numbers = stream(seed, "shopper numbers").permutation(count)
    truth: Any = None
    shown_truth: Any = None
    events_done = pages_done = 0
    for block, first in enumerate(range(0, count, SHOPPER_BLOCK)):
        number = numbers[first : first + SHOPPER_BLOCK]
        shoppers = draw_shoppers(seed, market, block, len(number))
        writer.write("shoppers", _shopper_rows(shoppers, number))
        table = pa.table(
            {
                "shopper_id": _ids("S", number, 7),
                "language": _taken(["en", "zh"], shoppers.language),
                "price_level": shoppers.price_level,
                "style": shoppers.style.tolist(),
                "taste": shoppers.taste.tolist(),
            }
        )
        truth = truth or parquet.ParquetWriter(writer.directory / TRUTH / "shoppers.parquet", table.schema)
        truth.write_table(table)
        shown: list[Pages] = []
        events = simulate(seed, market, catalogue, pool, shoppers, block, shown if impressions else None)
        writer.write("events", _event_table(events, words, catalogue, number, events_done, pages_done))
        for pages in shown:
            table, chance = _shown_tables(pages, words, catalogue, number, pages_done)
            writer.write("impressions", table)
            shown_truth = shown_truth or parquet.ParquetWriter(
                writer.directory / TRUTH / "impressions.parquet", chance.schema
            )
            shown_truth.write_table(chance)
        events_done += len(events.shopper)
        pages_done += int(events.page.max(initial=-1)) + 1
        tell("shoppers", first + len(number), count)
    truth.close()
    if shown_truth is not None:
        shown_truth.close()


def _write_judgements(writer: DatasetWriter, seed: int, catalogue: Catalogue, tell: OnProgress) -> None:
    batch: list[Judged] = []
    waiting = 0

    def flush(done: int) -> None:
        sizes = [len(judged.items) for judged in batch]
        items, grades = (np.concatenate([getattr(one, name) for one in batch]) for name in ("items", "grades"))
        columns = {
            "query": _taken([one.query for one in batch], np.repeat(np.arange(len(batch)), sizes)),
            "item_id": _ids("I", catalogue.number[items], 7),
            "grade": pa.array(grades, pa.int8()),
            "language": _taken([one.language for one in batch], np.repeat(np.arange(len(batch)), sizes)),
        }
        writer.write("judgements", pa.table(columns))
        tell("queries", done, done)
        batch.clear()

    for done, judged in enumerate(judgements(seed, catalogue), start=1):
        batch.append(judged)
        waiting += len(judged.items)
        if waiting >= _JUDGEMENT_BATCH:
            flush(done)
            waiting = 0
    if batch:
        flush(done)


def _shopper_rows(shoppers: Shoppers, numbers: Ints) -> list[dict[str, Any]]:
    rows = []
    for place, number in enumerate(numbers.tolist()):
        country = lexicon.COUNTRIES[shoppers.country[place]][0]
        age = lexicon.AGE_BANDS[shoppers.age[place]]
        known = f'{{"country": ["{country}"], "age_band": ["{age}"]}}' if shoppers.known[place] else None
        rows.append({"shopper_id": shopper_id(number), "attributes": known})
    return rows


def _event_table(
    events: Events, words: Words, catalogue: Catalogue, shoppers: Ints, events_done: int, pages_done: int
) -> Any:
    type_names = [name.removeprefix("EVENT_TYPE_") for name, _ in types_pb2.EventType.items()]
    scene_names = [None, *(name.removeprefix("SCENE_") for name, _ in list(types_pb2.Scene.items())[1:])]
    priced = ~np.isnan(events.price)
    schema = SCHEMAS["events"]
    columns = {
        "event_id": _ids("E", events_done + np.arange(len(events.shopper)), 10),
        "shopper_id": _ids("S", shoppers[events.shopper], 7),
        "type": _taken(type_names, events.type),
        "time": pa.array(moments(events.time)).cast(schema.field("time").type),
        "item_id": _ids("I", np.where(events.item >= 0, catalogue.number[events.item], -1), 7),
        "dwell_ms": _numbers(events.dwell_ms, schema.field("dwell_ms").type),
        "query": _queries(events, words),
        "scene": _taken(scene_names, events.scene),
        "request_id": _ids("R", np.where(events.page >= 0, events.page + pages_done, -1), 10),
        "position": _numbers(events.position, schema.field("position").type),
        "quantity": _numbers(events.quantity, schema.field("quantity").type),
        "price": pa.array(events.price, mask=~priced),
        "currency": _taken([None, CURRENCY], priced.astype(np.int64)),
    }
    return pa.table(columns)


def _shown_tables(pages: Pages, words: Words, catalogue: Catalogue, shoppers: Ints, pages_done: int) -> tuple[Any, Any]:
    """The rows of impressions, and the truth of each."""
    row, place = np.nonzero(pages.there)
    request = _ids("R", pages.page + pages_done, 10).take(pa.array(row))
    item = _ids("I", catalogue.number[pages.item[row, place]], 7)
    scene_names = [name.removeprefix("SCENE_") for name, _ in types_pb2.Scene.items()]
    columns = {
        "request_id": request,
        "item_id": item,
        "position": _numbers(place, pa.uint32()),
        "propensity": pa.array(np.clip(place_odds(pages.strength, pages.there)[row, place], 1e-9, 1), pa.float32()),
        "shopper_id": _ids("S", shoppers[pages.shopper[row]], 7),
        "scene": _taken(scene_names, pages.scene[row]),
        "policy": _taken(["demand with noise"], np.zeros(len(row), np.int64)),
        "query": _queries(pages, words).take(pa.array(row)),
        "time": pa.array(moments(pages.time)[row]).cast(SCHEMAS["impressions"].field("time").type),
        "score": pa.array(pages.strength[row, place], pa.float32()),
        "clicked": pa.array(pages.clicked[row, place]),
        "carted": pa.array(pages.carted[row, place]),
        "purchased": pa.array(pages.purchased[row, place]),
    }
    truth = {"request_id": request, "item_id": item, "chance": pa.array(pages.chance[row, place])}
    return pa.table(columns), pa.table(truth)


def _queries(events: Events | Pages, words: Words) -> Any:
    """Text of every event or page that came from a query; each distinct query is worded once."""
    asked = np.flatnonzero(events.form >= 0)
    form = events.form[asked]
    aimed = np.isin(form, (COLOUR, BRAND, EXACT))
    variant = np.where(form == EXACT, 0, events.variant[asked] % 2)
    target = np.where(aimed, events.target[asked], -1)
    puts, which = np.unique(np.stack([form, events.group[asked], variant, target]), axis=1, return_inverse=True)
    texts = [None, *(query_text(words, *put) for put in puts.T.tolist())]
    place = np.zeros(len(events.form), np.int64)
    place[asked] = 1 + which.reshape(-1)
    return _taken(texts, place)


def _ids(letter: str, numbers: Ints, digits: int) -> Any:
    """Identifiers like I0000042; null where the number is negative."""
    text = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), digits, "0")
    return pc.if_else(pa.array(numbers >= 0), pc.binary_join_element_wise(letter, text, ""), None)


def _taken(values: list[Any], places: Ints) -> Any:
    return pa.array(values, pa.string()).take(pa.array(places))


def _numbers(values: Ints, kind: Any) -> Any:
    """Null where negative."""
    return pa.array(np.maximum(values, 0), mask=values < 0).cast(kind)
