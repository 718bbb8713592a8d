"""The scenes of search and catalogue. Each prints what a shop would see and checks it."""

import statistics
import time
import unicodedata
from collections import defaultdict
from collections.abc import Callable
from itertools import islice
from types import TracebackType

import grpc
import numpy as np
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from demo.checks import Checks, in_time
from demo.prepare import Shop
from demo.stack import Stack
from souk import filters
from souk.dataset import find_table, read_items, read_judgements
from souk.ingest import wait_for_vectors, write_items
from souk.retriever.v1 import admin_pb2
from souk.shop.v1 import shop_pb2
from souk.show import hits_table, info_line
from souk.types.v1 import types_pb2
from training.evaluate.bootstrap import interval
from training.evaluate.metrics import by_query
from training.evaluate.search import as_served, popular

_JUDGED_QUERIES = 60
_TIMED_SEARCHES = 100
# Queries for shops without judgements.
_QUERIES = {"online_retail_ii": ["red retrospot mug", "christmas tree decoration", "present for a newborn"]}


def has_chinese(text: str) -> bool:
    """Whether a text has Chinese letters. Umlauts and emoji, as in a shop's own titles, are none."""
    return any("\u3400" <= letter <= "\u9fff" for letter in text)


def _plain(text: str) -> str:
    """Without marks and case, as completions are compared."""
    split = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in split if not unicodedata.combining(letter))


class SearchScenes:
    """The scenes, in the order in which a newcomer asks."""

    def __init__(self, stack: Stack, shop: Shop, checks: Checks) -> None:
        self._stack = stack
        self._shop = shop
        self._checks = checks
        self._console = checks.console
        self._client = stack.client()
        judged = find_table(shop.dataset, "judgements")
        self._grades = by_query(read_judgements(judged)) if judged else {}

    def __enter__(self) -> "SearchScenes":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    # ---- scenes ----

    def fill(self) -> None:
        """All items into the catalogue, and their vectors."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console) as progress:
            results = write_items(self._client, read_items(self._shop.dataset), progress)
            wait_for_vectors(self._client, progress)
        self._checks.check("every item was accepted", all(one.outcome != admin_pb2.OUTCOME_INVALID for one in results))

    def searches(self) -> None:
        """A query in English, one in Chinese, and the quality over judged queries."""
        self._checks.scene("Search")
        for query in self._queries():
            answer = self._ask(query)
            self._checks.check(f"{query!r} finds something", len(answer.hits) > 0)
            if not has_chinese(query):
                self._checks.check(f"{query!r} is answered by words and meaning", not answer.info.degradations)
            else:
                told = [one.reason for one in answer.info.degradations]
                self._checks.check(
                    f"{query!r}: an encoder without Chinese is told", told == [types_pb2.DEGRADATION_REASON_VOCABULARY]
                )
        if self._grades:
            self._quality()

    def filters_and_pages(self) -> None:
        """Filters hold on every hit, pages never repeat an item, exclusions stay out."""
        self._checks.scene("Filters, pages, exclusions")
        query = self._queries()[0]
        first = self._client.search(query, page_size=50)
        prices = sorted(hit.price for hit in first.hits if hit.HasField("price"))
        if prices:
            limit = prices[len(prices) // 3]
            cheap = self._client.search(query, page_size=5, filter=filters.price(max=limit))
            self._console.print(f"[bold]{query}[/bold], at most {limit:.2f}")
            self._console.print(hits_table(cheap.hits))
            self._checks.check("no hit is dearer than the filter says", all(hit.price <= limit for hit in cheap.hits))
            self._checks.check("the filter leaves something", len(cheap.hits) > 0)
        brands = [hit.brand for hit in first.hits if hit.brand]
        if brands:
            branded = self._client.search(query, page_size=50, filter=filters.brand(brands[0]))
            self._checks.check(
                "every hit is of the brand asked for", {hit.brand for hit in branded.hits} == {brands[0]}
            )
        seen: list[str] = []
        token = ""
        for _ in range(3):
            page = self._client.search(query, page_size=10, page_token=token)
            seen += [hit.item_id for hit in page.hits]
            token = page.info.next_page_token
        self._checks.check("three pages hold thirty different items", len(set(seen)) == len(seen) == 30)
        without = self._client.search(query, page_size=50, exclude=seen[:5])
        self._checks.check("excluded items stay out", not {hit.item_id for hit in without.hits} & set(seen[:5]))
        self._console.print("three pages of ten: no item twice; five items excluded: none shown")

    def similar_and_suggest(self) -> None:
        """Items like one item, and completions."""
        self._checks.scene("Similar and Suggest")
        item = self._client.search(self._queries()[0], page_size=1).hits[0]
        alike = in_time(lambda: self._client.similar(item.item_id, page_size=5))
        self._console.print(f"like [bold]{escape(item.title)}[/bold]")
        self._console.print(hits_table(alike.hits))
        self._console.print(info_line(alike.info))
        self._checks.check(
            "items like an item do not hold the item", item.item_id not in {hit.item_id for hit in alike.hits}
        )
        self._checks.check("an item has items like it", len(alike.hits) == 5 and not alike.info.degradations)
        prefix = self._queries()[0][:3]
        completions = [one.text for one in self._client.suggest(prefix, 5).suggestions]
        self._console.print(f"{prefix}… → {', '.join(completions)}")
        self._checks.check(
            "what is being typed is completed",
            all(_plain(prefix) in _plain(one) for one in completions[:1]) and completions != [],
        )

    def upsert(self) -> None:
        """A new item is found by words at once and by meaning a moment later; a retry changes nothing."""
        self._checks.scene("A new item")
        first = time.time_ns() // 1_000_000  # Revisions grow from one run of the demo to the next.
        item = types_pb2.Item(
            id="souk-demo-teapot",
            revision=first,
            title="Kyusu QX-9031 clay pot for brewing sencha",
            description="Hand-thrown side-handled pot with a fine inner strainer, for loose green leaves.",
            brand="Souk Demo",
            category_path=["Home", "Kitchen"],
            price=39.0,
            currency="GBP",
            stock=7,
        )
        created = self._client.upsert_items([item])[0]
        self._checks.check("the item is new", created.outcome == admin_pb2.OUTCOME_CREATED)
        by_words = self._ask("QX-9031")
        self._checks.check("the next search finds it by words", self._first(by_words) == item.id)
        again = self._client.upsert_items([item], wait=admin_pb2.WAIT_INDEXED, timeout=30)[0]
        self._checks.check("the same revision again changes nothing", again.outcome == admin_pb2.OUTCOME_UNCHANGED)
        # No word of this query stands in the item.
        query = "traditional Japanese teapot"
        self._ask(query)
        near = self._client.search(query, page_size=100, explain=True).hits
        place = next((i for i, hit in enumerate(near) if hit.item_id == item.id), None)
        self._checks.check("and by meaning", place is not None and list(near[place].leg_scores) == ["meaning"])
        self._console.print(f"found by meaning alone, at place {0 if place is None else place + 1} of {len(near)}")
        item.revision, item.stock = first + 1, 0
        self._client.upsert_items([item])
        self._checks.check("out of stock it is no longer shown", self._first(self._client.search("QX-9031")) != item.id)
        item.revision, item.stock = first + 2, 7
        self._client.upsert_items([item])
        self._checks.check("back in stock it is", self._first(self._client.search("QX-9031")) == item.id)

    def loss_of_the_embedder(self) -> None:
        """Without the embedder words answer and the answer says so; a moment later all is as before."""
        self._checks.scene("The embedder is killed (SIGKILL)")
        query = self._queries()[0]
        self._stack.kill("embedder")
        answer = self._ask(query)
        stages = [one.stage for one in answer.info.degradations]
        self._checks.check("a search is still answered, by words", len(answer.hits) > 0 and stages == ["embed"])
        well = self._until(lambda: not self._client.search(f"{query} again").info.degradations)
        self._checks.check("the stack starts it again and answers are whole", well)
        self._console.print("started again: answers are whole")

    def loss_of_the_retriever(self) -> None:
        """Nothing acknowledged is lost when the catalogue's process is killed."""
        self._checks.scene("The retriever is killed (SIGKILL)")
        self._stack.kill("retriever")
        try:
            self._client.search(self._queries()[0], timeout=1.0)
            self._checks.check("without a catalogue nothing is made up", False)
        except grpc.aio.AioRpcError as error:
            self._console.print(f"[yellow]{error.code().name}: {escape(error.details() or '')}[/yellow]")
            self._checks.check("the error says what is gone", error.code() is grpc.StatusCode.UNAVAILABLE)
        back = self._until(lambda: self._first(self._client.search("QX-9031")) == "souk-demo-teapot")
        self._checks.check("the acknowledged item is there after the restart", back)
        self._console.print("started again: the acknowledged item is there")
        self._client.delete_items([admin_pb2.ItemRef(item_id="souk-demo-teapot")])
        self._checks.check("and gone when taken out", self._first(self._client.search("QX-9031")) != "souk-demo-teapot")

    def stages(self) -> None:
        """Where the time of a search goes, cache of query vectors cold."""
        self._checks.scene(
            f"Where the time goes (median of {_TIMED_SEARCHES} searches, one at a time, every query new)"
        )
        words = " ".join(self._queries()).split()
        spent: dict[str, list[float]] = defaultdict(list)
        for i in range(_TIMED_SEARCHES):
            began = time.perf_counter()
            answer = self._client.search(f"{words[i % len(words)]} {words[(i // 3) % len(words)]} {i}")
            spent["all, seen by the caller"].append(time.perf_counter() - began)
            for timing in answer.info.timings:
                spent[timing.stage].append(timing.duration_us / 1e6)
        table = Table("stage", "median ms", "p95 ms", box=None)
        for stage, seconds in spent.items():
            table.add_row(
                stage,
                f"{statistics.median(seconds) * 1e3:.1f}",
                f"{sorted(seconds)[int(len(seconds) * 0.95)] * 1e3:.1f}",
            )
        self._console.print(table)
        self._checks.check("every stage was timed", {"embed", "retrieve", "page"} <= set(spent))

    def _queries(self) -> list[str]:
        if self._shop.name in _QUERIES:
            return _QUERIES[self._shop.name]
        english = [query for query in self._grades if not has_chinese(query)]
        chinese = [query for query in self._grades if has_chinese(query)]
        # The first is a plain noun; those after it share no word with what they mean.
        return [*english[:2], *english[3:4], *chinese[:1]] or [
            item.title for item in islice(read_items(self._shop.dataset), 3)
        ]

    def _quality(self) -> None:
        """nDCG@10 over judged queries; the search must be far ahead of the popularity order."""
        table = Table("queries", "search, nDCG@10", "popularity, nDCG@10", box=None)
        for name, chosen in (("English", lambda query: not has_chinese(query)), ("Chinese", has_chinese)):
            sample = {query: self._grades[query] for query in islice(filter(chosen, self._grades), _JUDGED_QUERIES)}
            if sample:
                reached = np.array([found["ndcg@10_as_zero"] for found in as_served(self._client, sample)])
                low, high = interval(reached)
                baseline = popular(self._client, sample)
                figure = f"{reached.mean():.3f} ± {(high - low) / 2:.3f}"
                table.add_row(f"{len(sample)} {name}", figure, f"{baseline:.3f}")
                self._checks.check(f"{name} searches are far better than popularity", reached.mean() > baseline + 0.2)
        self._console.print(table)

    def _ask(self, query: str) -> shop_pb2.SearchResponse:
        answer = in_time(lambda: self._client.search(query, page_size=5, explain=True))
        self._console.print(f"[bold]{escape(query)}[/bold]")
        self._console.print(hits_table(answer.hits, explain=True))
        self._console.print(info_line(answer.info))
        return answer

    def _first(self, answer: shop_pb2.SearchResponse) -> str:
        return answer.hits[0].item_id if answer.hits else ""

    def _until(self, holds: Callable[[], bool], seconds: float = 60) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if holds():
                    return True
            except grpc.aio.AioRpcError:
                pass
            time.sleep(0.1)
        return False
