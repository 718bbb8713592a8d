"""A report of off-policy evaluation as tables for a person."""

from rich.console import Console
from rich.table import Table

from training.policy.estimators import Estimate
from training.policy.evaluate import Report

ESTIMATORS = {
    "ips": "inverse propensity",
    "snips": "self-normalised",
    "dr": "doubly robust",
    "position": "clicks moved by place",
}


def show(report: Report, console: Console) -> None:
    """Prints the report."""
    said = console.print
    said(f"{report.name}: {report.answers:,} answers to {report.shoppers:,} shoppers, {report.places:,} places")
    said(f"as logged: {figure(report.earned)} clicks per answer")
    if report.unrandomised:
        said(report.unrandomised, highlight=False, soft_wrap=True)
    judged = {name: one for name, one in report.policies.items() if not one.support.problem}
    refused = [f"{name}: refused: {one.support.problem}" for name, one in report.policies.items() if name not in judged]
    table = Table("would have earned", *judged, title="clicks per answer, 95% interval")
    for estimator, called in ESTIMATORS.items():
        if any(estimator in one.estimates for one in judged.values()):
            table.add_row(called, *(figure(one.estimates[estimator]) for one in judged.values()))
    table.add_row("the log is worth places", *(f"{one.support.places:,.0f}" for one in judged.values()))
    if judged:
        said(table)
    for line in [*refused, *([report.unexplored] if report.unexplored else [])]:
        said(line, highlight=False, soft_wrap=True)
    if (asked := report.slots) is not None:
        said(
            f"{asked.slots} places kept for exploration, per answer that explores ({asked.answers:,} of them):\n"
            f"  clicks on explored items: now {figure(asked.now)}, then {figure(asked.then)}\n"
            f"  different explored items: {figure(asked.items)}\n"
            f"  clicks lost by the items that make room: at most {figure(asked.displaced)}\n"
            f"  gain of all together: at least {figure(asked.gain)}",
            highlight=False,
        )


def figure(estimate: Estimate) -> str:
    """With its interval."""
    return f"{estimate.value:.4f} ({estimate.low:.4f} to {estimate.high:.4f})"
