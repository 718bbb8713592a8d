"""What an evaluation of the ranker leaves on disk: numbers, a picture, and a page of both."""

import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from training.evaluate.lists import DEPTH
from training.evaluate.page import image, page, replace_file, table
from training.evaluate.results import CALIBRATION, Report, Result, between, exposure, figure
from training.ranker.measures import DEPTHS, MEASURES

matplotlib.use("agg")
from matplotlib import pyplot as plt

COLUMNS = ("ndcg@10", "recall@20", "hr@10", "mrr@10", "auc", "coverage@10", "tail_recall@10", "diversity@10")
"""What is told at the end of a run; the page has all."""
_SHARES = ("coverage", "tail_recall", "diversity", "popularity")
# Groups in the picture; the page has all.
_GROUPS = 8


def write_report(out: Path, report: Report) -> None:
    """Writes report.json, report.png and report.html into the directory `out`, over older ones."""
    out.mkdir(parents=True, exist_ok=True)
    replace_file(out / "report.json", json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n")
    _draw(out / "report.png", report)
    replace_file(out / "report.html", _page(report, (out / "report.png").read_bytes()))


def _draw(file: Path, report: Report) -> None:
    """NDCG and recall by depth, what the lists are like, and, where there are groups, who is shown."""
    figure_, axes = plt.subplots(2, 2, figsize=(11, 8))
    places = axes.flat
    for measure in ("ndcg", "recall"):
        _bars(next(places), report.results, [f"{measure}@{k}" for k in DEPTHS])
    _bars(next(places), report.results, [f"{name}@{DEPTH}" for name in _SHARES])
    last = next(places)
    if report.wanted:
        _draw_groups(last, report)
    else:
        _bars(last, report.results, [f"novelty@{DEPTH}"])
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure_.legend(handles, labels, loc="upper center", ncols=len(labels), frameon=False)
    figure_.tight_layout(rect=(0, 0, 1, 0.96))
    figure_.savefig(file, dpi=120)
    plt.close(figure_)


def _bars(axes: Any, results: list[Result], names: list[str]) -> None:
    """Groups of bars by measure, one a system; whiskers from the lowest to the highest seed, or a standard error."""
    width = 0.8 / len(results)
    for number, result in enumerate(results):
        spreads = np.array([result.spread(name) for name in names])
        errors = np.array([result.error(name) for name in names])
        apart = np.abs(spreads[:, 1:] - spreads[:, :1])
        beyond = np.where(apart.any(axis=1, keepdims=True), apart, np.nan_to_num(errors)[:, None])
        at = np.arange(len(names)) + (number - (len(results) - 1) / 2) * width
        axes.bar(at, spreads[:, 0], width * 0.9, yerr=beyond.T, capsize=2, label=result.name)
    axes.set_xticks(np.arange(len(names)), names)
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_groups(axes: Any, report: Report) -> None:
    """Shares of the groups that are wanted most: what is wanted, and what each system shows."""
    names = sorted(report.wanted, key=lambda group: -report.wanted[group])[:_GROUPS]
    places = np.arange(len(names))[::-1]
    for result in report.results:
        shown = exposure(result)
        axes.plot([shown[name] for name in names], places, "o", markersize=5, clip_on=False)
    axes.plot([report.wanted[name] for name in names], places, "k|", markersize=16, label="wanted")
    axes.set_yticks(places, [name if len(name) < 24 else f"{name[:22]}…" for name in names])
    axes.set_xlabel(f"share of exposure by {report.facts['groups']}; black: share of what is wanted")
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)


def _page(report: Report, picture: bytes) -> str:
    names = [one.name for one in report.results]
    first = report.results[0].measures
    found = [name for name in first if name.partition("@")[0] in (*MEASURES, "auc")]
    lists = list(dict.fromkeys(name for one in report.results for name in one.measures if name not in found))

    def rows(measures: list[str]) -> list[list[str]]:
        return [[name, *(figure(one, name) for one in report.results)] for name in measures]

    gains = [
        [f"over {baseline}", name, f"{gain.mean:+.4f}", f"{gain.low:+.4f} to {gain.high:+.4f}", f"{gain.p_value:.4f}"]
        for baseline, by in report.gains.items()
        for name, gain in by.items()
    ]
    trials = [
        [one.name, _told(settings), f"{value:.4f}", "chosen" if settings == one.chosen else ""]
        for one in report.results
        for settings, value in one.trials
    ]
    parts = [
        table(["", ""], [[name.replace("_", " "), _told(value)] for name, value in report.facts.items()]),
        image(picture, "NDCG, recall and the lists of every system"),
        "<h2>What is found</h2>\n<p>Mean over shoppers and seeds, the lowest and the highest seed in brackets; "
        "± is the standard error over shoppers.</p>",
        table(["measure", *names], rows(found)),
        f"<h2>What the lists are like</h2>\n{table(['measure', *names], rows(lists))}",
        "<h2>Gain of the ranker, paired bootstrap over shoppers</h2>\n"
        + table(["", "measure", "gain", "95% interval", "p-value"], gains),
        "<h2>Trials</h2>\n" + table(["system", "settings", "NDCG@10 on the validation", ""], trials),
    ]
    if heads := report.results[-1].calibration:
        lines = [[objective, *(between(*kinds[kind]) for kind in CALIBRATION)] for objective, kinds in heads.items()]
        parts.append(
            "<h2>Calibration of the heads</h2>\n<p>Of candidates that retrieval would bring, at moments that the heads "
            "did not learn from. Expected calibration error over ten bins of equal number.</p>"
            + table(["", "error", "mean told", "share met"], lines)
        )
    if report.wanted:
        shown = {one.name: exposure(one) for one in report.results}
        order = sorted(report.wanted, key=lambda group: -report.wanted[group])
        groups = [
            [group, f"{report.wanted[group]:.3f}", *(f"{shown[name][group]:.3f}" for name in names)] for group in order
        ]
        parts.append(f"<h2>Exposure by {report.facts['groups']}</h2>\n{table(['', 'wanted', *names], groups)}")
    return page(f"The ranker on {report.facts['data']}", *parts)


def _told(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {one}" for name, one in value.items()) or "defaults"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)
