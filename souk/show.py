"""Answers of the shop as people read them in a terminal."""

from collections.abc import Iterable
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from rich.markup import escape
from rich.table import Table

from souk.coldstart.v1 import review_pb2
from souk.shop.v1 import shop_pb2
from souk.types.v1 import types_pb2


def hits_table(hits: Iterable[shop_pb2.Hit], explain: bool = False) -> Table:
    """Hits for people to read, two lines each, which fit 80 columns; with `explain` a few more, which say why."""
    table = Table("#", "item", "what and why" if explain else "what", "score", box=None, pad_edge=False)
    for hit in hits:
        stock = f"{hit.stock} left" if hit.HasField("stock") else ""
        facts = " · ".join(filter(None, (hit.brand, _leaf(hit.category), _price(hit), stock)))
        lines = [_title(hit), *([f"  [dim]{escape(facts)}[/dim]"] if facts else [])]
        if explain:
            legs = ", ".join(f"{name} {score:.2f}" for name, score in sorted(hit.leg_scores.items()))
            lines += [f"  {escape(reason)}" for reason in hit.reasons]
            lines += [f"  [dim]found by {escape(legs)}[/dim]"] if legs else []
        table.add_row(str(hit.position + 1), escape(hit.item_id), "\n".join(lines), f"{hit.score:.3f}")
    return table


def decisions_table(decisions: Iterable[review_pb2.Decision]) -> Table:
    """Decisions of people, as they are given."""
    table = Table("number", "when", "who", "what", "until", "why", box=None, pad_edge=False)
    for one in decisions:
        table.add_row(
            str(one.sequence),
            _minute(one.time),
            escape(one.who),
            escape(_decided(one)),
            _minute(one.until),
            escape(one.why),
        )
    return table


def _decided(one: review_pb2.Decision) -> str:
    verdict = review_pb2.Verdict.Name(one.verdict).removeprefix("VERDICT_").lower()
    if one.undoes:
        return f"{verdict} {one.undoes} ({one.item_id})"
    scene = types_pb2.Scene.Name(one.scene).removeprefix("SCENE_").lower() if one.scene else ""
    where = [
        f"at {one.place + 1} in {scene}" if one.verdict == review_pb2.VERDICT_PIN else f"in {scene}" if scene else "",
        f"for {one.query!r}" if one.query else "",
        f"in {' > '.join(one.category_path)}" if one.category_path else "",
        f"on {one.promotion}" if one.promotion else "",
    ]
    return " ".join([verdict, one.item_id, *filter(None, where)])


def _minute(time: Timestamp) -> str:
    """In this machine's time; nothing for what is not set."""
    return f"{datetime.fromtimestamp(time.seconds):%Y-%m-%d %H:%M}" if time.seconds else ""


def _title(hit: shop_pb2.Hit) -> str:
    return escape(hit.title[:60]) + (" [dim](sponsored)[/dim]" if hit.sponsored else "")


def _leaf(category: str) -> str:
    return category.rsplit(" > ", 1)[-1]


def _price(hit: shop_pb2.Hit) -> str:
    return f"{hit.price:.2f} {hit.currency}" if hit.HasField("price") else ""


def info_line(info: shop_pb2.AnswerInfo) -> str:
    """Where the time went and what stood in, in one or two lines."""
    stages = " · ".join(f"{timing.stage} {timing.duration_us / 1000:.1f} ms" for timing in info.timings)
    line = f"[dim]{stages} · generation {info.generation[:12]} · request {info.request_id[:12]}[/dim]"
    for one in info.degradations:
        reason = (
            types_pb2.DegradationReason.Name(one.reason).removeprefix("DEGRADATION_REASON_").lower().replace("_", " ")
        )
        line += f"\n[yellow]{one.stage}: {reason}; instead: {one.substitute}[/yellow]"
    return line
