"""The derived indexes of the catalogue as one: what was committed goes in, candidates come out.

One thread at a time applies changes; any number read. A read works on one `View` from its beginning to its end, which
no write, rebuild or compaction changes. Nothing here is a truth: all of it can be made anew from the catalogue.
"""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import structlog

from services.domain.words import VERSION as ANALYSIS
from services.domain.words import analyse
from services.retriever import index_files, lexical, search
from services.retriever.changes import AppliedChange
from services.retriever.columns import NOBODY, Columns
from services.retriever.dense import Dense
from services.retriever.lexical import Lexical, Words, words_of
from services.retriever.popular import Popular
from services.retriever.requests import check_get_vectors, check_search, check_suggest
from services.retriever.rules import SearchRules
from services.retriever.suggest import NO_COMPLETIONS, Suggester
from services.retriever.view import View
from souk.retriever.v1 import retriever_pb2
from souk.types.v1 import types_pb2

# Ended slots that are worth a compaction; at least, and as a share of the items.
MIN_ENDED = 10_000
MAX_ENDED_SHARE = 0.3

FORMAT = 4
# Words are stored analysed: a snapshot made by another analysis, or with another segmenter, is of no use.
_PROBE = 'Kopfhörer WH-1000XM4 13,3" 2 TB running shoes 红色男士运动鞋'

log = structlog.get_logger(__name__)


class _Stopping(Exception):
    """The index is being closed in the middle of a rebuild."""


class CatalogueIndex:
    """Items by vector, words, popularity and id, behind filters. `build_threads`: FAISS's threads in a rebuild."""

    def __init__(self, build_threads: int = 1) -> None:
        self._build_threads = build_threads
        self._columns = Columns()
        self._lexical = Lexical()
        self._dense: dict[str, Dense] = {}
        self._generations: dict[str, tuple[str, ...]] = {}
        self._rules: dict[str, SearchRules] = {}
        self._serving = ""
        self._popular = Popular.of(self._columns.view())
        self._suggester = Suggester()
        self._completions = NO_COMPLETIONS
        self._writing = threading.Lock()
        self._maintaining = threading.Lock()
        self._stopping = threading.Event()
        self._publish(0)

    @property
    def sequence(self) -> int:
        """The last change applied."""
        return self._view.sequence

    @property
    def serving(self) -> str:
        """The generation that answers where none is named; empty if none does."""
        return self._view.serving

    # Writes.

    def apply(self, changes: Sequence[AppliedChange]) -> None:
        """Takes in committed changes, in order; reads that begin after it returns see them, and none sees a part.

        An item whose revision is not newer than the one held, and a vector made from another revision than the one
        held or for a space that is not loaded, change nothing. Raises ValueError, with nothing applied, for a vector
        of another length than its space.
        """
        analysed = [words_of(change.item) if change.item is not None else None for change in changes]
        with self._writing:
            self._check_lengths(changes)
            sequence = self._view.sequence
            for change, words in zip(changes, analysed, strict=True):
                sequence = max(sequence, change.sequence)
                if change.item is not None and words is not None:
                    self._write(change.item, words)
                elif change.removed:
                    self._remove(change)
                else:
                    self._put_vector(change)
            self._publish(sequence)

    def add_space(self, space: types_pb2.Space.ValueType, version: str, dim: int, generation: str) -> None:
        """A version of a space belongs to a generation from now on; empty until its vectors are applied. Safe to
        repeat."""
        with self._writing:
            if version not in self._dense:
                slots = self._view.columns.size
                self._dense[version] = Dense(space, version, dim, slots, self._build_threads)
            versions = self._generations.get(generation, ())
            if version not in versions:
                self._generations[generation] = (*versions, version)
            self._publish(self._view.sequence)

    def drop_space(self, version: str) -> None:
        """Lets a version of a space go, out of every generation. Reads under way with it end well. Safe to repeat."""
        with self._writing:
            self._dense.pop(version, None)
            self._generations = {
                generation: tuple(held for held in versions if held != version)
                for generation, versions in self._generations.items()
            }
            self._publish(self._view.sequence)

    def drop_generation(self, generation: str) -> None:
        """Lets a generation go, with the versions of spaces that belong to no other. Safe to repeat."""
        with self._writing:
            dropped = self._generations.pop(generation, ())
            self._rules.pop(generation, None)
            needed = {version for versions in self._generations.values() for version in versions}
            for version in set(dropped) - needed:
                self._dense.pop(version, None)
            self._publish(self._view.sequence)

    def set_rules(self, generation: str, rules: SearchRules) -> None:
        """A generation's searches are scored so from now on."""
        with self._writing:
            self._rules[generation] = rules
            self._publish(self._view.sequence)

    def set_serving(self, generation: str) -> None:
        """Requests that name no generation go to this one from now on."""
        with self._writing:
            self._generations.setdefault(generation, ())
            self._serving = generation
            self._publish(self._view.sequence)

    # Reads.

    def search(self, request: retriever_pb2.SearchRequest) -> retriever_pb2.SearchResponse:
        """Candidates of all legs, fused, filtered, best first.

        Raises Invalid, NotFound and FailedPrecondition as the contract says of Retriever.Search.
        """
        check_search(request)
        return search.search(self._view, request)

    def get_vectors(self, request: retriever_pb2.GetVectorsRequest) -> retriever_pb2.GetVectorsResponse:
        """Vectors of items at length 1. Raises Invalid and FailedPrecondition as the contract says."""
        check_get_vectors(request)
        return search.get_vectors(self._view, request)

    def suggest(self, request: retriever_pb2.SuggestRequest) -> retriever_pb2.SuggestResponse:
        """Completions as of the last `maintain`. Raises Invalid as the contract says."""
        check_suggest(request)
        found = self._completions.complete(request.prefix, request.k)
        suggestions = [retriever_pb2.Suggestion(text=text, items=items) for text, items in found]
        return retriever_pb2.SuggestResponse(suggestions=suggestions)

    def info(self) -> retriever_pb2.GetInfoResponse:
        """What is held and served; `primary` and `lag_changes` are the service's to fill in."""
        view = self._view
        indexes = []
        for generation, versions in view.generations.items():
            for version in versions:
                dense = view.spaces[version]
                indexes.append(
                    retriever_pb2.IndexInfo(
                        space=types_pb2.SpaceInfo(space=dense.space, version=version, dim=dense.dim),
                        generation=generation,
                        base=len(dense.base_slots),
                        delta=len(dense.delta_slots),
                        tombstones=dense.ended,
                        pending=view.columns.items - dense.present - dense.uncovered,
                        uncovered=dense.uncovered,
                        kind=dense.base.kind,
                    )
                )
        return retriever_pb2.GetInfoResponse(
            generation=view.serving, items=view.columns.items, sequence=view.sequence, indexes=indexes
        )

    # Upkeep.

    def maintain(self) -> None:
        """Rebuilds what has grown stale beside reads and writes, and swaps it in. To be called every second or so, by
        one background thread; a call while another runs does nothing. Building a large graph takes minutes: the
        cheaper upkeep goes on meanwhile, and `stop` ends it."""
        if not self._maintaining.acquire(blocking=False):
            return
        try:
            self._tidy()
            for dense in list(self._dense.values()):
                if dense.due():
                    self._rebuild(dense)
            columns = self._view.columns
            if columns.size - 1 - columns.items > max(MIN_ENDED, MAX_ENDED_SHARE * columns.items):
                self._compact()
        except _Stopping:
            log.info("rebuild_abandoned")
        finally:
            self._maintaining.release()

    def stop(self) -> None:
        """Ends a rebuild under way; `maintain` does nothing more."""
        self._stopping.set()

    def save(self, directory: Path) -> Path:
        """Writes a snapshot of all the indexes into a folder of its own and removes older ones; returns the folder.

        Runs beside reads and writes. Raises OSError where it cannot be written; older snapshots then stay.
        """
        view = self._view
        writer = index_files.Writer(directory, view.sequence)
        writer.arrays("columns", view.columns.table.arrays(view.columns))
        writer.arrays("words", lexical.arrays(view.words))
        spaces = []
        for number, dense in enumerate(view.spaces.values()):
            writer.arrays(f"space_{number}", dense.arrays())
            writer.index(f"space_{number}", dense.base.index)
            codes = dense.base.codes
            if codes is not None:
                writer.index(f"codes_{number}", codes.index)
            facts = {"space": dense.space, "version": dense.version, "dim": dense.dim, "codes": codes is not None}
            spaces.append(facts)
        return writer.finish(
            {
                "format": FORMAT,
                "analysis": _analysis(),
                "sequence": view.sequence,
                "serving": view.serving,
                "generations": {generation: list(versions) for generation, versions in view.generations.items()},
                "spaces": spaces,
            }
        )

    def load(self, directory: Path) -> int:
        """Takes back the newest whole snapshot and returns its sequence: what came later is to be applied again. 0,
        with nothing taken, where there is none. Only for an index to which nothing was applied."""
        for folder in index_files.finished(directory):
            try:
                self._load(folder)
            except Exception as error:
                # Whatever is wrong with it: the catalogue holds the truth and all can be made anew.
                log.warning("index_snapshot_ignored", snapshot=folder.name, error=str(error))
            else:
                return self.sequence
        return 0

    def _load(self, folder: Path) -> None:
        facts = index_files.read_facts(folder)
        if facts["format"] != FORMAT or facts["analysis"] != _analysis():
            raise index_files.Damaged(f"{index_files.MANIFEST}: written by another version")
        columns = Columns.from_arrays(index_files.read_arrays(folder, "columns"))
        words = Lexical.from_arrays(index_files.read_arrays(folder, "words"))
        table = columns.view()
        spaces = {}
        for number, entry in enumerate(facts["spaces"]):
            dense = Dense(entry["space"], entry["version"], entry["dim"], table.size, self._build_threads)
            index, arrays = (
                read(folder, f"space_{number}") for read in (index_files.read_index, index_files.read_arrays)
            )
            codes = index_files.read_index(folder, f"codes_{number}") if entry["codes"] else None
            dense.restore(index, codes, arrays, table.alive)
            spaces[dense.version] = dense
        with self._writing:
            self._columns, self._lexical, self._dense = columns, words, spaces
            self._generations = {generation: tuple(held) for generation, held in facts["generations"].items()}
            self._serving = facts["serving"]
            self._popular = Popular.of(table)
            self._publish(facts["sequence"])

    def _publish(self, sequence: int) -> None:
        """All that was written counts from here on, in one step."""
        self._view = View(
            sequence,
            self._columns.view(),
            self._lexical.view(),
            self._popular,
            {version: dense.view() for version, dense in self._dense.items()},
            dict(self._generations),
            dict(self._rules),
            self._serving,
        )

    def _check_lengths(self, changes: Sequence[AppliedChange]) -> None:
        for change in changes:
            dense = self._dense.get(change.space_version)
            if dense is not None and change.vector is not None and change.vector.shape != (dense.dim,):
                raise ValueError(
                    f"vector of {change.item_id!r}: shape {change.vector.shape}; space {dense.version} has {dense.dim}"
                )

    def _write(self, item: types_pb2.Item, words: Words) -> None:
        held = self._columns.held(item.id)
        if held != NOBODY:
            if item.revision <= self._columns.revision_at(held):
                return
            self._end(held)
        slot = self._columns.add(item)
        self._lexical.add(slot, words)
        for dense in self._dense.values():
            dense.add_slot()

    def _remove(self, change: AppliedChange) -> None:
        held = self._columns.held(change.item_id)
        if held != NOBODY and change.revision > self._columns.revision_at(held):
            self._end(held)

    def _put_vector(self, change: AppliedChange) -> None:
        held = self._columns.held(change.item_id)
        dense = self._dense.get(change.space_version)
        if dense is not None and held != NOBODY and change.revision == self._columns.revision_at(held):
            dense.put(held, change.vector)

    def _end(self, slot: int) -> None:
        self._columns.end(slot)
        self._lexical.end(slot)
        for dense in self._dense.values():
            dense.end(slot)

    def _tidy(self) -> None:
        """The upkeep that takes little time."""
        if self._stopping.is_set():
            raise _Stopping
        view = self._view
        if self._lexical.due(view.columns.size):
            merged = lexical.merge(view.words, view.columns)
            with self._writing:
                self._lexical.swap(merged, view.words)
                self._publish(self._view.sequence)
        if self._popular.due(view.columns):
            popular = Popular.of(view.columns)
            with self._writing:
                self._popular = popular
                self._publish(self._view.sequence)
        completions = self._suggester.refresh(self._view.columns)
        if completions is not None:
            self._completions = completions

    def _rebuild(self, dense: Dense) -> None:
        view = self._view
        # A space added or dropped meanwhile is none of ours.
        if dense.version not in view.spaces:
            return
        built = dense.build(view.spaces[dense.version], view.columns, self._tidy)
        with self._writing:
            if self._dense.get(dense.version) is dense:
                dense.swap(built, self._view.columns)
                self._publish(self._view.sequence)

    def _compact(self) -> None:
        """Gives the live items new slots without gaps. Reads go on; writes wait only while the newest are moved."""
        for dense in list(self._dense.values()):
            # Once an item's earlier versions are gone, its unchanged vector can no longer be given its old row back.
            self._rebuild(dense)
        view = self._view
        table, moved = self._columns.compacted(view.columns)
        merged = lexical.merge(view.words, view.columns, moved)
        with self._writing:
            now = self._view
            newer = np.arange(view.columns.size, now.columns.size)
            all_moved = table.take(self._columns, now.columns, newer)
            all_moved[: view.columns.size] = moved
            for slot in np.flatnonzero(view.columns.alive & ~now.columns.alive[: view.columns.size]).tolist():
                table.end(int(moved[slot]))
            alive = table.view().alive
            self._suggester.move(now.columns, all_moved, table)
            self._columns = table
            self._lexical = self._lexical.moved(merged, view.words, all_moved, alive)
            self._popular = self._popular.moved(all_moved)
            self._dense = {version: dense.moved(all_moved, alive) for version, dense in self._dense.items()}
            self._publish(now.sequence)


def _analysis() -> list[str]:
    return [str(ANALYSIS), *analyse(_PROBE)]
