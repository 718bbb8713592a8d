"""What the demo prints between answers, and the count of what was sound."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from rich.console import Console
from rich.markup import escape

from souk.shop.v1 import shop_pb2
from souk.types.v1 import types_pb2


class _Answer(Protocol):
    @property
    def info(self) -> shop_pb2.AnswerInfo: ...


A = TypeVar("A", bound=_Answer)


def in_time(ask: Callable[[], A]) -> A:
    """The answer; asked for once more where a stage ran out of time, as it may on a machine busy with other things."""
    answer = ask()
    late = any(one.reason == types_pb2.DEGRADATION_REASON_TIMEOUT for one in answer.info.degradations)
    return ask() if late else answer


class Checks:
    """Every answer shown is checked; the verdict counts what was not sound."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._made = 0
        self._unsound: list[str] = []

    def scene(self, title: str) -> None:
        """Begins a scene."""
        self.console.rule(title, align="left")

    def check(self, what: str, sound: bool) -> None:
        """Counts; what is not sound is told at once and again at the end."""
        self._made += 1
        if not sound:
            self._unsound.append(what)
            self.console.print(f"[red]not sound: {escape(what)}[/red]")

    def verdict(self) -> bool:
        """Prints how many checks held; True if all did."""
        if self._unsound:
            self.console.print(f"\n[red bold]{len(self._unsound)} of {self._made} checks failed[/red bold]")
            for one in self._unsound:
                self.console.print(f"  [red]{escape(one)}[/red]")
        else:
            self.console.print(f"\n[green bold]all {self._made} checks held[/green bold]")
        return not self._unsound
