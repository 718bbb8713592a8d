"""What an evaluation of the cold start leaves on disk: numbers, a picture, and a page of both."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from services.domain.strategies import NAMES
from training.evaluate.bootstrap import paired_bootstrap
from training.evaluate.coldstart import REVEALED, SOUK, SYSTEMS, Results, Tested, harmonic, mean_of, share_of
from training.evaluate.page import image, page, replace_file, table
from training.ranker.log import Floats
from training.ranker.measures import Measured

matplotlib.use("agg")
from matplotlib import pyplot as plt

_KINDS = ("cold", "warm")
SHOPPER_MEASURES = ("ndcg@10", "recall@10")


def write_report(out: Path, results: Results) -> None:
    """Writes report.json, report.png and report.html into the directory `out`, over older ones."""
    out.mkdir(parents=True, exist_ok=True)
    numbers = to_json(results)
    replace_file(out / "report.json", json.dumps(numbers, indent=1, ensure_ascii=False) + "\n")
    _draw(out / "report.png", results)
    replace_file(out / "report.html", _page(numbers, (out / "report.png").read_bytes()))


def to_json(results: Results) -> dict[str, Any]:
    """All numbers, means over the seeds; `strategies` are Souk's, each by itself. `warm_loss` is the share of warm
    recall@10 that Souk loses by showing unknown items, `warm_loss_points` the difference itself, `warm_loss_test` its
    interval. What begins with `gentle_` is of the bias that was expected to take 1% of warm recall."""
    items: dict[str, Any] = {}
    for name in SYSTEMS:
        seeds = [_items_of(one) for one in results.items[name]]
        items[name] = {key: float(np.mean([one[key] for one in seeds])) for key in seeds[0]}
        items[name] |= {
            "by_seed": seeds,
            "chosen": [dict(one.chosen) for one in results.items[name]],
            "trials": [_trials(one) for one in results.items[name]],
            "seconds": round(sum(one.seconds for one in results.items[name]), 1),
        }
        if name != SOUK:
            items[name]["gain_of_souk"] = {
                part: _gain(results.items, name, lambda one, part=part: _recall(one, part))  # type: ignore[misc]
                for part in ("cold", "warm")
                if all(part in one.measured for one in results.items[name])
            }
    own = items[SOUK]
    items["warm_loss"] = own["warm_loss"]
    items["warm_loss_points"] = own["recall@10_warm_alone"] - own["recall@10_warm"]
    alone, warm = (np.concatenate([_recall(one, part) for one in results.items[SOUK]]) for part in ("alone", "warm"))
    items["warm_loss_test"] = asdict(paired_bootstrap(alone, warm))
    items["share_of_events"] = float(np.mean(results.event_share))
    items["curve"] = {name: _curve(results.items[name]) for name in SYSTEMS}
    shoppers: dict[str, Any] = {}
    for key in REVEALED:
        shoppers[key] = {}
        for name in SYSTEMS:
            tested = results.shoppers[name]
            found: dict[str, Any] = {}
            for measure in SHOPPER_MEASURES:
                means = [float(one.measured[key].values[measure].mean()) for one in tested]
                values = np.concatenate([one.measured[key].values[measure] for one in tested])
                found[measure] = float(np.mean(means))
                found[f"{measure}_by_seed"] = means
                found[f"{measure}_standard_error"] = float(values.std() / np.sqrt(len(values)))
            if name != SOUK:
                found["gain_of_souk"] = _gain(results.shoppers, name, lambda one, key=key: one.measured[key].ndcg)  # type: ignore[misc]
            shoppers[key][name] = found
    chosen = {
        name: {
            "chosen": [dict(one.chosen) for one in results.shoppers[name]],
            "trials": [_trials(one) for one in results.shoppers[name]],
            "seconds": round(sum(one.seconds for one in results.shoppers[name]), 1),
        }
        for name in SYSTEMS
    }
    return {
        **results.facts,
        "items": items,
        "shoppers": shoppers,
        "tuning_of_shoppers": chosen,
        "strategies": _alone(results),
    }


def _alone(results: Results) -> dict[str, Any]:
    """What each strategy does by itself: unknown and known items each ranked among their own kind, and shoppers."""

    def mean(measured: list[dict[str, Measured]], key: str, measure: str) -> float:
        return float(np.mean([one[key].values[measure].mean() for one in measured if key in one] or [0.0]))

    return {
        name: {
            **{f"recall@10_{kind}": mean(results.alone_items, f"{name} {kind}", "recall@10") for kind in _KINDS},
            "ndcg@10": {key: mean(results.alone_shoppers, f"{name} {key}", "ndcg@10") for key in REVEALED},
        }
        for name in NAMES
    }


def _items_of(tested: Tested) -> dict[str, float]:
    cold, warm = mean_of(tested.measured, "cold"), mean_of(tested.measured, "warm")
    alone = mean_of(tested.measured, "alone")
    gentle = {
        part: tested.measured[f"gentle {part}"]
        for part in ("cold", "warm", "all")
        if f"gentle {part}" in tested.measured
    }
    gentle_warm = mean_of(gentle, "warm")
    return {
        "recall@10_cold": cold,
        "recall@10_warm": warm,
        "harmonic": harmonic(cold, warm),
        "cold_share": share_of(tested.measured),
        "recall@10_warm_alone": alone,
        "warm_loss": 1 - warm / alone if alone else 0.0,
        "bias": tested.bias,
        "gentle_recall@10_cold": mean_of(gentle, "cold"),
        "gentle_recall@10_warm": gentle_warm,
        "gentle_cold_share": share_of(gentle),
        "gentle_warm_loss": 1 - gentle_warm / alone if alone else 0.0,
    }


def _recall(tested: Tested, part: str) -> Floats:
    return tested.measured[part].values["recall@10"]


def _gain(by_system: dict[str, list[Tested]], name: str, values: Callable[[Tested], Floats]) -> dict[str, float]:
    """Souk over a baseline, paired by moment, those of all seeds together."""
    own, other = (np.concatenate([values(one) for one in by_system[system]]) for system in (SOUK, name))
    return asdict(paired_bootstrap(own, other))


def _trials(tested: Tested) -> list[dict[str, Any]]:
    return [{"settings": dict(settings), "validation": value} for settings, value in tested.trials]


def _curve(tested: list[Tested]) -> list[dict[str, float]]:
    """What more and more weight for unknown items brings on the test, the mean over the seeds; none shown first."""
    values = [one.measured["curve"].values for one in tested]
    columns = {key: np.mean([one[key] for one in values], axis=0).tolist() for key in ("cold", "warm", "share")}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _draw(file: Path, results: Results) -> None:
    """Left: NDCG@10 by number of events revealed. Right: cold against warm recall as unknown items get more weight."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5))
    keys = list(REVEALED)
    for name in SYSTEMS:
        width = 2.4 if name == SOUK else 1.2
        means = [[one.measured[key].ndcg.mean() for key in keys] for one in results.shoppers[name]]
        (line,) = left.plot(np.arange(len(keys)), np.mean(means, axis=0), "o-", linewidth=width, label=name)
        left.fill_between(
            np.arange(len(keys)), np.min(means, axis=0), np.max(means, axis=0), color=line.get_color(), alpha=0.15
        )
        curve = _curve(results.items[name])
        right.plot(
            [one["cold"] for one in curve],
            [one["warm"] for one in curve],
            "-",
            color=line.get_color(),
            linewidth=width,
            label=name,
        )
        points = [_items_of(one) for one in results.items[name]]
        right.plot(
            [one["recall@10_cold"] for one in points],
            [one["recall@10_warm"] for one in points],
            "o",
            color=line.get_color(),
        )
    left.set_xticks(np.arange(len(keys)), keys)
    left.set_xlabel("events revealed of a held-out shopper\n(band: lowest to highest seed)")
    left.set_ylabel("NDCG@10 of what came next")
    left.set_ylim(bottom=0)
    right.set_xlabel("recall@10 of unknown items\n(dots: the bias chosen, one a seed)")
    right.set_ylabel("recall@10 of known items")
    right.set_xlim(left=0)
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, fontsize="small")
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    plt.close(figure)


def _page(numbers: dict[str, Any], picture: bytes) -> str:
    items, shoppers = numbers["items"], numbers["shoppers"]
    facts = [[name.replace("_", " "), str(value)] for name, value in numbers.items() if not isinstance(value, dict)]
    columns = ("recall@10_cold", "recall@10_warm", "harmonic", "cold_share", "recall@10_warm_alone", "warm_loss")
    of_items = [[name, *(_spread(items[name], column) for column in columns)] for name in SYSTEMS]
    gentle = ("gentle_recall@10_cold", "gentle_recall@10_warm", "gentle_cold_share", "gentle_warm_loss")
    of_gentle = [[name, *(_spread(items[name], column) for column in gentle)] for name in SYSTEMS]
    of_shoppers = [[name, *(f"{shoppers[key][name]['ndcg@10']:.4f}" for key in REVEALED)] for name in SYSTEMS]
    gains = [
        [f"{part} items" if part in ("cold", "warm") else f"{part} events", name, *_gain_cells(gain)]
        for name in SYSTEMS[1:]
        for part, gain in [
            *items[name]["gain_of_souk"].items(),
            *((key, shoppers[key][name]["gain_of_souk"]) for key in REVEALED),
        ]
    ]
    alone = [
        [name, *(f"{one[f'recall@10_{kind}']:.4f}" for kind in _KINDS), *(f"{v:.4f}" for v in one["ndcg@10"].values())]
        for name, one in numbers["strategies"].items()
    ]
    curve = [
        [f"{one['share']:.3f}", f"{one['cold']:.4f}", f"{one['warm']:.4f}"]
        for one in sorted(items["curve"][SOUK], key=lambda one: one["share"])
    ]
    trials = [
        [part, name, str(number), json.dumps(one["settings"]), f"{one['validation']:.4f}"]
        for part, by in (("items", items), ("shoppers", numbers["tuning_of_shoppers"]))
        for name in SYSTEMS
        for number, tried in zip(numbers["seeds"], by[name]["trials"], strict=True)
        for one in tried
    ]
    return page(
        f"The cold start on {numbers['data']}",
        table(["", ""], [*facts, ["share of events of the items held out", f"{items['share_of_events']:.3f}"]]),
        image(picture, "NDCG by events revealed; recall of unknown and known items"),
        "<h2>Unknown items</h2>\n<p>Means over the seeds, the lowest and the highest in brackets.</p>",
        table(["", *columns], of_items),
        "<h2>With a bias that took at most 1% of warm recall on the validation</h2>",
        table(["", *gentle], of_gentle),
        f"<h2>Unknown shoppers: NDCG@10 by events revealed</h2>\n{table(['', *REVEALED], of_shoppers)}",
        "<h2>Souk's strategies, each by itself</h2>\n<p>recall@10 of unknown and of known items, each ranked among "
        "their own kind; NDCG@10 by events revealed.</p>",
        table(["", "cold", "warm", *REVEALED], alone),
        "<h2>Gain of Souk, paired bootstrap over moments: recall@10 of items, NDCG@10 by events revealed</h2>\n"
        + table(["", "over", "gain", "95% interval", "p-value"], gains),
        "<h2>Souk: what more weight for unknown items brings</h2>\n"
        + table(["share of the first ten", "cold recall@10", "warm recall@10"], curve),
        f"<h2>Trials</h2>\n{table(['', 'system', 'seed', 'settings', 'validation'], trials)}",
    )


def _spread(values: dict[str, Any], column: str) -> str:
    by_seed = [one[column] for one in values["by_seed"]]
    return f"{values[column]:.4f} ({min(by_seed):.4f} to {max(by_seed):.4f})"


def _gain_cells(gain: dict[str, float]) -> list[str]:
    return [f"{gain['mean']:+.4f}", f"{gain['low']:+.4f} to {gain['high']:+.4f}", f"{gain['p_value']:.4f}"]
