"""What the demo prints between answers, and the count of what was sound."""

from rich.console import Console
from rich.markup import escape


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
