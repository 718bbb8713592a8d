"""What a load test leaves on disk, and the comparison of two: JSON, a picture, a page of all that."""

import html
import json
from pathlib import Path
from typing import Any

import matplotlib

from loadtest.tally import PERCENTILES
from training.evaluate.page import image, page, replace_file, table

matplotlib.use("agg")
from matplotlib import pyplot as plt

_COLUMNS = [*PERCENTILES, "max"]
PHASE_HEADER = ["phase", "due", "answers/s", *_COLUMNS, "failed", "unsent", "degraded"]

Run = dict[str, Any]


class NoRun(ValueError):
    """A directory that holds no report of a load test."""


def write_report(out: Path, run: Run) -> None:
    """Writes report.json, report.png and report.html into `out`, a directory that exists."""
    replace_file(out / "report.json", json.dumps(run, indent=1, ensure_ascii=False) + "\n")
    _draw(out / "report.png", run)
    replace_file(out / "report.html", _page(run, (out / "report.png").read_bytes()))


def read_run(directory: Path) -> Run:
    """The numbers of a load test. Raises NoRun."""
    try:
        run = json.loads((directory / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NoRun(f"{directory}: no report of a load test: {error}") from None
    if not isinstance(run, dict) or "phases" not in run or "seconds" not in run:
        raise NoRun(f"{directory}/report.json: not of a load test: it has no phases")
    return run


def phase_rows(run: Run) -> list[list[str]]:
    """One row a phase under PHASE_HEADER, times in milliseconds."""
    return [
        [
            phase["name"],
            str(phase["due"]),
            f"{phase['throughput']:.1f}",
            *(_ms(phase["latency"]["all"].get(name)) for name in _COLUMNS),
            str(sum(phase["failures"].values())),
            str(phase["unsent"]),
            f"{phase['quality'].get('degraded', 0):.1%}",
        ]
        for phase in run["phases"]
    ]


def compare_rows(one: Run, other: Run) -> list[list[str]]:
    """By phase of both: measure, first, second, second / first."""
    rows = []
    others = {phase["name"]: phase for phase in other["phases"]}
    for phase in one["phases"]:
        if (match := others.get(phase["name"])) is None:
            continue
        for name, first, second in _pairs(phase, match):
            ratio = f"{second / first:.2f}" if first else "-"
            rows.append([f"{phase['name']}: {name}", f"{first:.4g}", f"{second:.4g}", ratio])
    for first_knee, second_knee in zip(one["knees"], other["knees"], strict=False):
        first, second = first_knee["rate"], second_knee["rate"]
        ratio = f"{second / first:.2f}" if first else "-"
        rows.append([f"{first_knee['phase']}: knee, calls/s", f"{first:.4g}", f"{second:.4g}", ratio])
    return rows


def _pairs(one: Any, other: Any) -> list[tuple[str, float, float]]:
    found = [("answers/s", one["throughput"], other["throughput"])]
    for name in _COLUMNS:
        times = [phase["latency"]["all"].get(name) for phase in (one, other)]
        if None not in times:
            found.append((f"{name}, ms", times[0], times[1]))
    found.append(("not answered, share", one["missing"], other["missing"]))
    for name in sorted(set(one["quality"]) & set(other["quality"])):
        found.append((name, one["quality"][name], other["quality"][name]))
    for name in sorted(set(one.get("processes", {})) & set(other.get("processes", {}))):
        both = [(phase, phase["processes"][name]) for phase in (one, other)]
        found.append((f"{name}, core ms an answer", _core_ms(*both[0]), _core_ms(*both[1])))
        found.append((f"{name}, most MiB", both[0][1]["mib"], both[1][1]["mib"]))
    return found


def write_comparison(out: Path, one: Run, other: Run, names: tuple[str, str]) -> None:
    """Writes compare.png and compare.html into `out`, a directory that exists."""
    figure, axes = plt.subplots(figsize=(9, 4))
    for run, name, style in zip((one, other), names, ("-", "--"), strict=True):
        open_loop = [phase for phase in run["phases"] if phase["kind"] == "steady" and phase["latency"]["all"]["count"]]
        steps = sorted(open_loop, key=lambda phase: phase["offered"])
        for measure, colour in (("p50", "tab:blue"), ("p99", "tab:red")):
            values = [phase["latency"]["all"][measure] for phase in steps]
            rates = [phase["offered"] for phase in steps]
            axes.plot(rates, values, style, marker="o", color=colour, label=f"{measure}, {name}")
    axes.set_yscale("log")
    axes.set_xlabel("calls due a second, all steady phases")
    axes.set_ylabel("latency, ms")
    axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(out / "compare.png", dpi=120)
    plt.close(figure)
    header = ["measure", *names, f"{names[1]} / {names[0]}"]
    body = [table(header, compare_rows(one, other)), image((out / "compare.png").read_bytes(), "latency by rate")]
    replace_file(out / "compare.html", page(f"{names[0]} and {names[1]}", *body))


def _draw(file: Path, run: Run) -> None:
    """Above: latency and answers over time. Below: where the time goes by phase, and latency by rate."""
    figure = plt.figure(figsize=(12, 8))
    grid = figure.add_gridspec(2, 2)
    top, left, right = figure.add_subplot(grid[0, :]), figure.add_subplot(grid[1, 0]), figure.add_subplot(grid[1, 1])
    seconds = run["seconds"]
    at = [one["at"] for one in seconds]
    for measure, colour in (("p50", "tab:blue"), ("p99", "tab:orange"), ("max", "tab:red")):
        top.plot(at, [one[measure] or None for one in seconds], color=colour, label=f"{measure}, ms")
    top.set_yscale("log")
    top.set_ylabel("latency, ms")
    top.set_xlabel("seconds since the start")
    rates = top.twinx()
    rates.bar(at, [one["answered"] for one in seconds], 0.8, color="lightgrey", label="answers")
    lost = [one["failed"] + one["unsent"] for one in seconds]
    rates.bar(at, lost, 0.8, color="black", label="failed or unsent")
    rates.set_ylabel("calls, each second and client process")
    top.set_zorder(rates.get_zorder() + 1)
    top.set_frame_on(False)
    top.legend(loc="upper left", fontsize="small")
    rates.legend(loc="upper center", fontsize="small")
    began = ""
    for one in seconds:
        if one["phase"] != began:
            began = one["phase"]
            top.axvline(one["at"], color="grey", linewidth=0.6, linestyle=":")
    steady = [phase for phase in run["phases"] if phase["kind"] in ("steady", "constant")]
    steady = sorted((one for one in steady if one["latency"]["all"]["count"]), key=lambda phase: phase["offered"])
    for measure in PERCENTILES:
        times = [phase["latency"]["all"][measure] for phase in steady]
        left.plot([phase["offered"] for phase in steady], times, marker="o", label=measure)
    for knee in run["knees"]:
        left.axvline(knee["rate"], color="grey", linestyle="--", label="knee")
    left.set_yscale("log")
    left.set_xlabel("calls due a second")
    left.set_ylabel("latency, ms")
    left.legend(fontsize="small")
    if chosen := _longest(run):
        stages = sorted(chosen["stages"].items(), key=lambda one: one[1].get("p50", 0))
        right.barh([name for name, _ in stages], [times.get("p99", 0) for _, times in stages], color="tab:orange")
        right.barh([name for name, _ in stages], [times.get("p50", 0) for _, times in stages], color="tab:blue")
        right.set_xlabel(f"ms in {chosen['name']}: p50 (blue), p99 (orange)")
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _longest(run: Run) -> Any:
    """The longest steady phase: what the tables of stages and scenarios are of."""
    steady = [phase for phase in run["phases"] if phase["kind"] in ("steady", "constant")]
    return max(steady or run["phases"], key=lambda phase: phase["planned_seconds"], default=None)


def _page(run: Run, picture: bytes) -> str:
    facts = {name: run[name] for name in ("made", "gateway", "dataset", "seed", "clients")} | run["machine"]
    parts = [
        table(["", ""], [[name, str(value)] for name, value in facts.items()]),
        "<p>Milliseconds from when a call was due. Calls whose deadline passed are among them; others that failed are "
        "counted beside.</p>",
        table(PHASE_HEADER, phase_rows(run)),
        *(
            f"<p>Knee of {html.escape(knee['phase'])}: {knee['rate']:g} calls/s ({html.escape(knee['why'])}).</p>"
            for knee in run["knees"]
        ),
        image(picture, "latency over time, by rate and by stage"),
    ]
    for phase in run["phases"]:
        parts.append(f"<h2>{html.escape(phase['name'])}</h2>")
        for title, times in (("scenario", phase["latency"]), ("stage", phase["stages"])):
            if times:
                rows = [
                    [name, str(one["count"]), *(_ms(one.get(at)) for at in _COLUMNS)] for name, one in times.items()
                ]
                parts.append(table([title, "count", *_COLUMNS], rows))
        lag = phase["client_lag"]
        parts.append(f"<p>The client itself sent late by p50 {_ms(lag.get('p50'))}, p99 {_ms(lag.get('p99'))} ms.</p>")
        counts = phase["failures"] | phase["degradations"]
        if counts:
            parts.append(table(["failure or degradation", "count"], [[name, str(n)] for name, n in counts.items()]))
        if phase["quality"]:
            parts.append(table(["answers", ""], [[name, f"{value:.4g}"] for name, value in phase["quality"].items()]))
        if "processes" in phase:
            used = [
                [name, f"{one['cores']:.2f}", f"{_core_ms(phase, one):.1f}", f"{one['mib']:.0f}"]
                for name, one in phase["processes"].items()
            ]
            parts.append(table(["process", "cores", "core ms an answer", "most MiB"], used))
            hits = [
                [name, str(one["hits"]), str(one["misses"]), f"{one['ratio']:.3f}"]
                for name, one in phase["caches"].items()
            ]
            parts.append(table(["cache, level", "hits", "misses", "hit ratio"], hits))
    return page("Load test", *parts)


def _core_ms(phase: Any, process: Any) -> float:
    """What an answer cost, which others on the machine change less than they change latency."""
    return 1000 * process["cores"] / phase["throughput"] if phase["throughput"] else 0.0


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
