"""Who waits for vectors of items that were written."""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor

from services.retriever.catalogue import Catalogue
from services.retriever.changes import AppliedChange

_Waiting = dict[str, list[tuple[int, "asyncio.Future[None]"]]]


class Arrivals:
    """Ends waits as vectors are committed. For one event loop."""

    def __init__(self, catalogue: Catalogue, threads: Executor) -> None:
        self._catalogue = catalogue
        self._threads = threads
        self._waiting: dict[str, _Waiting] = {}

    def note(self, changes: Sequence[AppliedChange]) -> None:
        """What was committed."""
        for change in changes:
            if change.removed:
                for waiting in self._waiting.values():
                    _tell(waiting, change.item_id, None)
            elif change.space and (found := self._waiting.get(change.space_version)):
                _tell(found, change.item_id, change.revision)

    async def wait(self, version: str, revisions: Mapping[str, int]) -> None:
        """Waits until each item has a vector of its revision or a later one, is uncovered, or is gone."""
        if not revisions:
            return
        loop = asyncio.get_running_loop()
        waiting = self._waiting.setdefault(version, {})
        waits = {item_id: (revision, loop.create_future()) for item_id, revision in revisions.items()}
        for item_id, wait in waits.items():
            waiting.setdefault(item_id, []).append(wait)
        try:
            lacking = await loop.run_in_executor(self._threads, self._catalogue.lacking, version, list(revisions))
            for item_id, (_, future) in waits.items():
                if item_id not in lacking and not future.done():
                    future.set_result(None)
            await asyncio.wait([future for _, future in waits.values()])
        finally:
            for item_id, wait in waits.items():
                wait[1].cancel()
                waiting[item_id].remove(wait)
                if not waiting[item_id]:
                    del waiting[item_id]
            if not waiting:
                self._waiting.pop(version, None)


def _tell(waiting: _Waiting, item_id: str, revision: int | None) -> None:
    """The item has a vector of a revision, or none is to come (None)."""
    for wanted, future in waiting.get(item_id, ()):
        if not future.done() and (revision is None or wanted <= revision):
            future.set_result(None)
