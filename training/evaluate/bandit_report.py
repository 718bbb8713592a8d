"""What an evaluation of the place for new items leaves on disk: numbers, a picture, and a page of both."""

import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from training.evaluate.bandit import OURS, Results
from training.evaluate.page import image, page, replace_file, table

matplotlib.use("agg")
from matplotlib import pyplot as plt


def to_json(results: Results, seeds: list[int]) -> dict[str, Any]:
    """By system: regret after all impressions and impressions until a good item is HOT, means over the seeds and each
    seed; `trials` are the mean regrets of the settings on the tuning shops."""
    systems = {}
    for name, played in results.played.items():
        regret = [float(one.regret[-1]) for one in played]
        until = [float(one.until_hot.mean()) for one in played]
        systems[name] = {
            "regret": float(np.mean(regret)),
            "regret_by_seed": regret,
            "until_hot": float(np.mean(until)),
            "until_hot_by_seed": until,
            "chosen": dict(results.chosen[name]),
            "trials": results.tuning[name],
        }
    return {"seeds": seeds, "impressions": len(results.played[OURS][0].regret), "systems": systems}


def write_report(out: Path, results: Results, seeds: list[int]) -> None:
    """Writes report.json, report.png and report.html into the directory `out`, over older ones."""
    out.mkdir(parents=True, exist_ok=True)
    numbers = to_json(results, seeds)
    replace_file(out / "report.json", json.dumps(numbers, indent=1) + "\n")
    figure, axes = plt.subplots(figsize=(7, 4.5))
    for name, played in results.played.items():
        regret = np.stack([one.regret for one in played])
        steps = np.arange(regret.shape[1])
        (line,) = axes.plot(steps, regret.mean(axis=0), label=name, linewidth=2.4 if name == OURS else 1.2)
        axes.fill_between(steps, regret.min(axis=0), regret.max(axis=0), color=line.get_color(), alpha=0.1)
    axes.set_xlabel("impressions (band: lowest to highest seed)")
    axes.set_ylabel("regret, clicks")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
    figure.tight_layout()
    figure.savefig(out / "report.png", dpi=120)
    plt.close(figure)
    rows = [
        [
            name,
            *(f"{one[key]:.0f} ({min(one[by]):.0f} to {max(one[by]):.0f})" for key, by in _COLUMNS),
            str(one["chosen"]),
        ]
        for name, one in numbers["systems"].items()
    ]
    replace_file(
        out / "report.html",
        page(
            f"The place for new items: seeds {seeds}, {numbers['impressions']:,} impressions",
            table(["", "regret, clicks (seeds)", "impressions until a good item is HOT (seeds)", "chosen"], rows),
            image((out / "report.png").read_bytes(), "Regret by impressions"),
        ),
    )


_COLUMNS = (("regret", "regret_by_seed"), ("until_hot", "until_hot_by_seed"))
