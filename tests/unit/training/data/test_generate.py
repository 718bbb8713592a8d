"""The generated shop: the same bytes again, valid in every row, true to its truth, and silent in its ids."""

import hashlib
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from services.domain.words import analyse
from souk.dataset import DatasetError
from training.data.canonical import Dataset
from training.data.effect_sizes import measure
from training.data.generate import generate
from training.data.validate import validate
from training.data.wording import model_name, series_name
from training.data.world import DAYS, LEAVES, START


def digests(directory: Path) -> dict[str, str]:
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_arguments_give_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        generate(tmp_path / name, items=300, shoppers=60, seed=seed)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert set(digests(tmp_path / "a")) == {
        *(f"{table}.parquet" for table in ("items", "shoppers", "events", "judgements")),
        *("dataset.json", "truth/items.parquet", "truth/shoppers.parquet"),
    }
    assert digests(tmp_path / "a")["events.parquet"] != digests(tmp_path / "c")["events.parquet"]


@pytest.mark.parametrize("items", [100, 450])
def test_small_shops_are_valid_too(tmp_path: Path, items: int) -> None:
    generate(tmp_path / "shop", items=items, shoppers=3, seed=1)
    assert validate(tmp_path / "shop").bad == {}


def test_arguments_out_of_bounds_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="items: 99; it must be 100 to"):
        generate(tmp_path / "x", items=99, shoppers=1, seed=1)
    with pytest.raises(ValueError, match="shoppers: 0"):
        generate(tmp_path / "x", items=100, shoppers=0, seed=1)
    with pytest.raises(ValueError, match="seed: -1"):
        generate(tmp_path / "x", items=100, shoppers=1, seed=-1)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "x").mkdir()
    with pytest.raises(DatasetError, match="exists already"):
        generate(tmp_path / "x", items=100, shoppers=1, seed=1)


def test_every_row_is_valid(shop: Dataset) -> None:
    report = validate(shop.path)
    assert report.bad == {}
    assert report.counts == shop.info.counts


def test_the_catalogue_is_what_it_promises(shop: Dataset) -> None:
    items = shop.items()
    chinese = items["title"].str.contains(r"\p{Han}").mean()
    assert isinstance(chinese, float)
    assert 0.25 < chinese < 0.35
    assert items["category"].str.split(" > ").list.len().unique().to_list() == [3]
    assert items["category"].n_unique() == 2 * len(LEAVES) >= 60
    assert items.filter(pl.col("stock") == 0).height > 0
    assert items.filter(~pl.col("visible")).height > 0
    assert items["description"].null_count() > 0
    end = (START + np.timedelta64(DAYS, "D")).item()
    latest = items["created_at"].dt.replace_time_zone(None)
    assert (latest < end).all()
    assert (latest > end - np.timedelta64(14, "D").item()).sum() > 20
    # What is new has sold nothing before the log began.
    assert (
        items.filter((pl.col("popularity") > 0) & (latest > START.item() + np.timedelta64(60, "D").item())).height == 0
    )


def test_every_kind_of_event_and_scene_occurs_in_order(shop: Dataset) -> None:
    events = shop.events()
    assert set(events["type"]) == {"SEARCH", "VIEW", "CLICK", "CART", "UNCART", "PURCHASE", "RETURN", "SKIP"}
    scenes = {"SEARCH", "HOME", "SIMILAR", "CART", "NEW_ARRIVALS", "PROMOTION", "CAMPAIGN"}
    assert set(events["scene"].drop_nulls()) == scenes
    backwards = events.select((pl.col("time").diff().over("shopper_id").dt.total_microseconds() < 0).sum()).item()
    assert backwards == 0
    born = events.join(shop.items().select("item_id", "created_at"), on="item_id")
    assert born.filter(pl.col("time") < pl.col("created_at").dt.truncate("1s")).height == 0
    silent = shop.shoppers().join(events, on="shopper_id", how="anti").height
    assert 0 < silent < 0.2 * shop.info.counts["shoppers"]


def test_first_places_are_clicked_more(shop: Dataset) -> None:
    clicks = shop.events().filter(pl.col("type") == "CLICK")["position"]
    assert (clicks == 0).sum() > 2 * (clicks == 4).sum() > 0


def test_ids_and_file_order_say_nothing(shop: Dataset) -> None:
    items = shop.items()
    truth = pl.read_parquet(shop.path / "truth" / "items.parquet")
    assert items["item_id"].to_list() == truth["item_id"].to_list() == sorted(items["item_id"])
    sold = shop.events().filter(pl.col("type") == "PURCHASE").group_by("item_id").len()
    sales = items.join(sold, on="item_id", how="left", maintain_order="left")["len"].fill_null(0)
    place = np.arange(items.height)
    bound = 4 / items.height**0.5
    values = (items["price"], items["created_at"].dt.epoch(), truth["weight"], sales, items["category"].rank("dense"))
    for value in values:
        ranks = value.rank("random", seed=0).to_numpy()
        assert abs(np.corrcoef(place, ranks)[0, 1]) < bound


def test_taste_beats_popularity_on_held_out_purchases(shop: Dataset) -> None:
    """By the truth, and by nothing but each shopper's own earlier purchases."""
    bought = shop.events().filter(pl.col("type") == "PURCHASE")
    cut = bought["time"].quantile(0.85, "nearest")
    train, test = bought.filter(pl.col("time") < cut), bought.filter(pl.col("time") >= cut)
    items = pl.read_parquet(shop.path / "truth" / "items.parquet")
    shoppers = pl.read_parquet(shop.path / "truth" / "shoppers.parquet")
    place = {item: at for at, item in enumerate(items["item_id"])}
    leaves = [leaf.path[2][0] for leaf in LEAVES]
    leaf = np.array([leaves.index(name) for name in items["leaf"]])
    chinese = (items["language"] == "zh").to_numpy()
    style = np.array(items["style"].to_list())
    popularity = np.bincount([place[item] for item in train["item_id"]], minlength=len(place)).astype(float)
    history: dict[str, list[int]] = {}
    for shopper, item in train.select("shopper_id", "item_id").iter_rows():
        history.setdefault(shopper, []).append(place[item])
    truth = {row["shopper_id"]: row for row in shoppers.iter_rows(named=True)}
    hits = dict.fromkeys(("popularity", "truth", "history"), 0)
    cases = test.filter(pl.col("shopper_id").is_in(list(history))).unique(["shopper_id", "item_id"]).sort("event_id")
    assert cases.height > 200
    for shopper, item in cases.select("shopper_id", "item_id").iter_rows():
        latent = truth[shopper]
        own = np.bincount(leaf[history[shopper]], minlength=len(LEAVES))
        base = np.log(popularity + 1)
        usual_language = chinese[history[shopper]].mean() > 0.5
        same_language = chinese == (latent["language"] == "zh")
        scores = {
            "popularity": base,
            "truth": base + np.log(np.array(latent["taste"]))[leaf] + style @ latent["style"] / 2 + 5 * same_language,
            "history": base + np.log(own + 0.05)[leaf] + 3 * (chinese == usual_language),
        }
        for name, score in scores.items():
            hits[name] += int((score > score[place[item]]).sum() < 50)
    assert hits["truth"] > 1.5 * hits["popularity"]
    assert hits["history"] > 1.25 * hits["popularity"]


def test_other_words_share_none_with_the_titles_they_ask_for(shop: Dataset) -> None:
    """Only a leg that knows meaning finds these."""
    titles = dict(shop.items().select("item_id", "title").iter_rows())
    relevant = shop.judgements().filter(pl.col("grade") == 3).group_by("query").agg("item_id")
    asked = {query: [titles[item] for item in found] for query, found in relevant.iter_rows()}
    checked = 0
    for leaf in LEAVES:
        for text in (*leaf.synonyms, *leaf.needs):
            for language in (0, 1):
                words = set(analyse(text[language]))
                for title in asked.get(text[language], []):
                    assert not words & set(analyse(title)), (text[language], title)
                    checked += 1
    assert checked > 5000


def test_a_model_number_has_one_answer_that_says_it(shop: Dataset) -> None:
    items = shop.items()
    models = {
        json.loads(attributes)["model"][0]: (item, title)
        for item, title, attributes in items.select("item_id", "title", "attributes").iter_rows()
        if "model" in json.loads(attributes)
    }
    best = shop.judgements().filter((pl.col("grade") == 3) & pl.col("query").is_in(list(models)))
    assert best.height == best["query"].n_unique() == 60
    for query, item in best.select("query", "item_id").iter_rows():
        assert models[query][0] == item
        assert query in models[query][1]


def test_judgements_have_every_grade_in_both_languages(shop: Dataset) -> None:
    grades = shop.judgements().select("language", "grade").unique()
    assert grades.height == 8
    hidden = shop.items().filter(~pl.col("visible"))["item_id"]
    assert not shop.judgements()["item_id"].is_in(hidden.to_list()).any()


def test_invented_names_are_distinct() -> None:
    assert len({model_name(code, 7) for code in range(20_000)}) == 20_000
    assert len({series_name(code) for code in range(5_000)}) == 5_000


def test_effect_sizes_stay_between_those_of_the_real_logs(shop: Dataset) -> None:
    """The bounds are the real logs' own (docs/data.md)."""
    effects = measure(shop.events())
    assert 0.982 < effects.sparsity < 0.9993
    assert 0.49 < effects.popularity_gini < 0.67
    assert 0.10 < effects.top_percent_share < 0.21
    assert 0.07 < effects.repeat_rate < 0.37
    assert 1.6 < effects.basket_mean < 23.3
    assert 8.8 < effects.purchases_per_shopper_mean < 133
