"""What an evaluation of fairness leaves on disk: numbers, a picture, and a page of both."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from training.evaluate.bootstrap import Difference
from training.evaluate.page import image, page, replace_file, table
from training.fairness.evaluate import AS_RANKED, GOAL, LIMITED, LOSS, SHARED, TO_GOAL, Tested

matplotlib.use("agg")
from matplotlib import pyplot as plt

_MARKS = {LIMITED: "x", SHARED: "D", TO_GOAL: "s"}


def write_report(out: Path, facts: dict[str, Any], tested: list[Tested]) -> None:
    """Writes report.json, report.png and report.html into the directory `out`, over older ones."""
    out.mkdir(parents=True, exist_ok=True)
    numbers = facts | {
        "loss_allowed": LOSS,
        "goal": GOAL,
        "reached": all(one.reached for one in tested),
        "seeds": [asdict(one) | {"reached": one.reached} for one in tested],
    }
    replace_file(out / "report.json", json.dumps(numbers, indent=1, ensure_ascii=False) + "\n")
    _draw(out / "report.png", tested)
    replace_file(out / "report.html", _page(facts, tested, (out / "report.png").read_bytes()))


def _draw(file: Path, tested: list[Tested]) -> None:
    """Left: what sharing out costs on the validation and on the test. Right: exposure by facet of the first seed."""
    facets = list(tested[0].shares)
    figure, axes = plt.subplots(1, 1 + len(facets), figsize=(6 + 4 * len(facets), 4.5), squeeze=False)
    left, *others = axes[0]
    for number, one in enumerate(tested):
        points = [(0.0, 0.0), *((tried.gini, tried.ndcg["all"]) for tried in one.tried)]
        (line,) = left.plot(*(100 * np.array(points).T), ".-", label=f"validation, seed {one.seed}")
        for name, system in one.systems.items():
            if name != AS_RANKED:
                at = 100 * system.gini_change[0], 100 * system.change["all"].mean
                left.plot(*at, _MARKS[name], color=line.get_color(), label="" if number else f"test, {name}")
    left.axhline(-100 * LOSS, color="grey", linewidth=0.8)
    left.axvline(100 * GOAL, color="grey", linewidth=0.8)
    left.set_title("goal: left of and above the grey lines", fontsize="medium")
    left.set_xlabel("Gini coefficient of the suppliers, change in %")
    left.set_ylabel("NDCG@10, change in %")
    left.legend(fontsize="x-small")
    for axis, facet in zip(others, facets, strict=True):
        names = list(tested[0].shares[facet])
        places = np.arange(len(names))[::-1]
        for name, system in tested[0].systems.items():
            axis.plot([system.exposure[facet][one] for one in names], places, "o", markersize=5, label=name)
        wanted = [tested[0].shares[facet][one][1] for one in names]
        axis.plot(wanted, places, "k|", markersize=16, label="wanted")
        axis.set_yticks(places, names)
        axis.set_xlabel(f"share of exposure by {facet}; black: of what is wanted")
        axis.legend(fontsize="x-small")
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    plt.close(figure)


def percent(value: float) -> str:
    """A change as people read it."""
    return f"{100 * value:+.1f}%"


def _interval(change: Difference) -> str:
    return f"{percent(change.mean)} ({percent(change.low)} to {percent(change.high)})"


def _page(facts: dict[str, Any], tested: list[Tested], picture: bytes) -> str:
    parts = [
        table(["", ""], [[name.replace("_", " "), str(value)] for name, value in facts.items()]),
        image(picture, "what sharing exposure out costs; exposure by group of items"),
    ]
    for one in tested:
        reached = "reached" if one.reached else "not reached"
        parts.append(
            f"<h2>Seed {one.seed}</h2>\n<p>Goal {reached}: Gini {percent(GOAL)} at most {percent(-LOSS)} of NDCG@10, "
            "of all shoppers and in every group. In brackets 95% intervals over shoppers.</p>"
        )
        rows = [
            [
                name,
                "" if one.chosen.get(name) is None else f"{one.chosen[name]:g}",
                f"{system.gini:.3f}",
                "{} ({} to {})".format(*map(percent, system.gini_change)),
                str(system.shown),
                f"{system.ndcg['all']:.4f}",
            ]
            for name, system in one.systems.items()
        ]
        parts.append(table(["test", "strength", "Gini", "change", "suppliers shown", "NDCG@10"], rows))
        names = list(one.systems)
        rows = [
            [
                f"{group} ({size})",
                *(f"{system.ndcg[group]:.4f} {_interval(system.change[group])}" for system in one.systems.values()),
            ]
            for group, size in one.sizes.items()
        ]
        parts.append("<h3>NDCG@10 by group of shoppers</h3>\n" + table(["", *names], rows))
        for facet, shares in one.shares.items():
            rows = [
                [
                    group,
                    f"{of_items:.3f}",
                    f"{wanted:.3f}",
                    *(f"{system.exposure[facet][group]:.3f}" for system in one.systems.values()),
                    *(
                        "{:.3f} ({:.3f} to {:.3f})".format(*system.found[facet][group])
                        if group in system.found[facet]
                        else ""
                        for system in one.systems.values()
                    ),
                ]
                for group, (of_items, wanted) in shares.items()
            ]
            header = ["", "of items", "of wanted", *(f"exposed, {name}" for name in names)]
            header += [f"found of it, {name}" for name in names]
            parts.append(f"<h3>By {facet}</h3>\n{table(header, rows)}")
        rows = [
            [f"{tried.strength:g}", percent(tried.gini), *(percent(tried.ndcg[group]) for group in one.sizes)]
            for tried in one.tried
        ]
        parts.append("<h3>Tried on the validation</h3>\n" + table(["strength", "Gini", *one.sizes], rows))
    return page(f"Fairness on {facts['data']}", *parts)
