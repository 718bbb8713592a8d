"""What an evaluation of search leaves on disk: numbers, a table by query, a picture, and a page of all that."""

import csv
import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from training.evaluate.bootstrap import interval
from training.evaluate.metrics import RULES
from training.evaluate.page import image, page, replace_file, table
from training.evaluate.search import Measures

matplotlib.use("agg")
from matplotlib import pyplot as plt

_RULE_NAMES = {"as_zero": "unjudged as not relevant", "condensed": "judged items alone"}


def write_report(out: Path, title: str, facts: dict[str, Any], measures: Measures) -> None:
    """Writes report.json, queries.csv, report.png and report.html into the directory `out`, over older ones.

    `facts` are what was measured and how, by name. report.json holds them with `Measures.to_json`, also by script.
    """
    out.mkdir(parents=True, exist_ok=True)
    replace_file(out / "report.json", json.dumps(_numbers(facts, measures), indent=1, ensure_ascii=False) + "\n")
    _write_queries(out / "queries.csv", measures)
    _draw(out / "report.png", measures)
    replace_file(out / "report.html", _page(title, facts, measures, (out / "report.png").read_bytes()))


def _numbers(facts: dict[str, Any], measures: Measures) -> dict[str, Any]:
    scripts = {script: part.to_json() for script, part in measures.by_script().items()}
    return facts | measures.to_json() | {"by_script": scripts}


def _write_queries(file: Path, measures: Measures) -> None:
    """One row a query: every measure of every system."""
    with file.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines)
        columns = [(system, name) for system, values in measures.systems.items() for name in values]
        writer.writerow(["query", *(f"{system}.{name}" for system, name in columns)])
        for i, query in enumerate(measures.queries):
            writer.writerow([query, *(f"{measures.systems[system][name][i]:.4f}" for system, name in columns)])


def _draw(file: Path, measures: Measures) -> None:
    """Left: nDCG@10 of every system with its 95% interval. Right: what hybrid gains over bm25, query by query."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), width_ratios=(2, 3))
    places = np.arange(len(measures.systems))
    for side, rule in enumerate(RULES):
        values = [systems[f"ndcg@10_{rule}"] for systems in measures.systems.values()]
        means = np.array([one.mean() for one in values])
        beyond = np.array([interval(one) for one in values]).T
        left.bar(
            places + (side - 0.5) * 0.4,
            means,
            0.36,
            yerr=np.abs(beyond - means),
            capsize=3,
            label=_RULE_NAMES[rule],
        )
        gains = measures.systems["hybrid"][f"ndcg@10_{rule}"] - measures.systems["bm25"][f"ndcg@10_{rule}"]
        right.plot(np.sort(gains)[::-1], label=_RULE_NAMES[rule])
    left.set_xticks(places, list(measures.systems))
    left.set_ylim(0, 1.25)
    left.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    left.set_ylabel("nDCG@10, mean and 95% interval")
    left.legend(loc="upper center", ncols=2, fontsize="small")
    right.axhline(0, color="grey", linewidth=0.8)
    right.set_xlabel("queries, each line in its own order")
    right.set_ylabel("gain of hybrid over bm25, nDCG@10")
    right.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    plt.close(figure)


def _page(title: str, facts: dict[str, Any], measures: Measures, picture: bytes) -> str:
    names = list(next(iter(measures.systems.values())))
    groups = {"all queries": measures} | {f"in {script}": part for script, part in measures.by_script().items()}
    if len(groups) == 2:
        del groups[next(reversed(groups))]
    # A measure a row: nine of them beside each other are wider than a page.
    of_systems = [
        (f"{system}, {group} ({len(part.queries)})", values)
        for group, part in groups.items()
        for system, values in part.systems.items()
    ]
    rows = [[name, *(f"{values[name].mean():.3f}" for _, values in of_systems)] for name in names]
    gains = []
    for rule in RULES:
        gain = measures.gain(f"ndcg@10_{rule}")
        numbers = (f"{gain.mean:+.3f}", f"{gain.low:+.3f} to {gain.high:+.3f}", f"{gain.p_value:.4f}")
        gains.append([_RULE_NAMES[rule], *numbers])
    by_query = [
        [query, *(f"{values[f'ndcg@10_{rule}'][i]:.3f}" for values in measures.systems.values() for rule in RULES)]
        for i, query in enumerate(measures.queries)
    ]
    columns = [f"{system}, {_RULE_NAMES[rule]}" for system in measures.systems for rule in RULES]
    return page(
        title,
        table(["", ""], [[name, str(value) if value != {} else "none"] for name, value in facts.items()]),
        f"<h2>Means</h2>\n{table(['', *(name for name, _ in of_systems)], rows)}",
        "<h2>Hybrid against BM25F alone: gain in nDCG@10, paired bootstrap</h2>\n"
        + table(["unjudged items", "gain", "95% interval", "p-value"], gains),
        image(picture, "nDCG@10 by system; gain by query"),
        f"<h2>nDCG@10 by query</h2>\n{table(['query', *columns], by_query)}",
    )
