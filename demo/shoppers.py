"""The scenes of the shopper's half: events in, models from them, recommendations, and the next models from traffic."""

import random
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import TracebackType

import grpc
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from demo.checks import Checks, in_time
from demo.prepare import Shop
from demo.stack import Stack
from souk.dataset import read_events, read_items
from souk.ingest import write_events
from souk.retriever.v1 import admin_pb2
from souk.shop.v1 import shop_pb2
from souk.show import hits_table, info_line
from souk.types.v1 import generations_pb2, types_pb2

HOME, CART = types_pb2.SCENE_HOME, types_pb2.SCENE_CART
SIMILAR, NEW = types_pb2.SCENE_SIMILAR, types_pb2.SCENE_NEW_ARRIVALS
PROMOTION, CAMPAIGN = types_pb2.SCENE_PROMOTION, types_pb2.SCENE_CAMPAIGN
SPONSORED = types_pb2.SCENE_SPONSORED
_HOT_EVENTS = 30
_VISITORS = 40
_PREPARE_SECONDS = 300.0


class ShopperScenes:
    """The scenes, in order. `minutes` is the budget of each training of the ranker."""

    def __init__(self, stack: Stack, shop: Shop, checks: Checks, minutes: float) -> None:
        self._stack = stack
        self._shop = shop
        self._checks = checks
        self._console = checks.console
        self._minutes = minutes
        self._client = stack.client()

    def __enter__(self) -> "ShopperScenes":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    # ---- scenes ----

    def events(self) -> None:
        """The whole log into coldstart, as a shop would send it."""
        self._checks.scene("Events in")
        began = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console) as progress:
            written = write_events(self._client, read_events(self._shop.dataset), progress)
        seconds = time.monotonic() - began
        self._console.print(f"{written} events, each acknowledged after its commit, {written / seconds:.0f} a second")
        again = self._client.record_events(list(islice(read_events(self._shop.dataset), 1000)))
        self._checks.check("events sent again change nothing", again.accepted == 0)

    def learn(self) -> Path:
        """A ranker and topics from the log, with the vectors that the shop has made already; a bundle of them."""
        self._checks.scene("Models from the log")
        return self._train(self._shop.dataset, "first")

    def recommendations(self) -> None:
        """For one of whom much is known, one of whom little is, and one nobody knows; with reasons."""
        self._checks.scene("Recommendations")
        catalogue = self._client.catalogue_info
        began = time.monotonic()
        while any(index.pending for index in catalogue().indexes) and time.monotonic() - began < _PREPARE_SECONDS:
            time.sleep(0.2)
        hot, warm = self._shoppers
        tops: dict[str, list[str]] = {}
        for shopper, stage in (
            (hot, types_pb2.STAGE_HOT),
            (warm, types_pb2.STAGE_WARM),
            ("nobody-yet", types_pb2.STAGE_COLD),
        ):
            answer = self._show(f"{shopper}, HOME", self._recommend(HOME, shopper))
            self._checks.check(f"{shopper} is as well known as was seen", answer.stage == stage)
            self._checks.check(f"{shopper} gets a whole answer", len(answer.hits) == 5 and not answer.info.degradations)
            self._checks.check(f"{shopper} is told why", all(hit.reasons for hit in answer.hits))
            tops[shopper] = [hit.item_id for hit in answer.hits]
        self._checks.check("who is known gets another answer than who is not", tops[hot] != tops["nobody-yet"])
        page = tops[hot][0]
        for scene, item in ((SIMILAR, page), (CART, page), (NEW, "")):
            name = types_pb2.Scene.Name(scene).removeprefix("SCENE_")
            answer = self._show(f"{hot}, {name} {item}", self._recommend(scene, hot, [item] if item else []))
            self._checks.check(f"{name} answers", len(answer.hits) == 5)
            self._checks.check(f"{name} leaves its own item out", item not in [hit.item_id for hit in answer.hits])
        first = self._client.recommend(HOME, shopper_id=hot, page_size=20)
        second = self._client.recommend(HOME, shopper_id=hot, page_size=20, page_token=first.info.next_page_token)
        both = [hit.item_id for hit in (*first.hits, *second.hits)]
        self._checks.check("two pages repeat nothing", len(both) == len(set(both)) == 40)

    def an_event_counts_at_once(self) -> None:
        """What a shopper does changes the very next answer."""
        self._checks.scene("An event that changes the next answer")
        shopper = f"visitor-{uuid.uuid4().hex[:6]}"
        before = self._recommend(HOME, shopper)
        items = list(islice(read_items(self._shop.dataset), 400))
        item = random.Random(5).choice(
            [one for one in items if one.title.isascii() and (one.stock or not one.HasField("stock"))]
        )
        self._event(shopper, item.id, types_pb2.EVENT_TYPE_VIEW)
        self._console.print(f"{shopper} looks at [bold]{escape(item.title)}[/bold]")
        after = self._show(f"{shopper}, HOME", self._recommend(HOME, shopper))
        self._checks.check("nobody knew the visitor before", before.stage == types_pb2.STAGE_COLD)
        self._checks.check("one look makes a warm shopper", after.stage == types_pb2.STAGE_WARM)
        self._checks.check("the answer is another", [h.item_id for h in before.hits] != [h.item_id for h in after.hits])

    def a_new_item(self) -> None:
        """From upsert to being recommended."""
        self._checks.scene("A new item on its way to being recommended")
        hot, _ = self._shoppers
        liked = self._recommend(HOME, hot, size=50).hits
        model = self._client.get_item(next((hit for hit in liked if hit.title.isascii()), liked[0]).item_id)
        item = types_pb2.Item()
        item.CopyFrom(model)
        item.id, item.title = "souk-demo-new", f"{model.title} (new edition)"
        item.revision = time.time_ns() // 1_000_000
        item.created_at.GetCurrentTime()
        item.stock = 50
        began = time.monotonic()
        self._client.upsert_items([item], wait=admin_pb2.WAIT_INDEXED, timeout=60)
        self._console.print(f"{escape(item.title)}: in every vector space after {time.monotonic() - began:.1f} s")
        place = None
        while place is None and time.monotonic() - began < 20:
            listed = self._recommend(NEW, hot, size=100)
            place = next((hit.position for hit in listed.hits if hit.item_id == item.id), None)
        self._console.print(f"recommended after {time.monotonic() - began:.1f} s")
        self._console.print(f"place among the new arrivals for {hot}: {'none' if place is None else place + 1}")
        self._checks.check("the new item is recommended among new arrivals", place is not None)
        self._client.delete_items([admin_pb2.ItemRef(item_id=item.id)])

    def offers(self) -> None:
        """A promotion, paid places and a campaign, each in its scene and as an item says it; and brands."""
        self._checks.scene("Promotion, paid places, campaign, brands")
        hot, _ = self._shoppers
        liked = [self._client.get_item(hit.item_id) for hit in self._recommend(HOME, hot, size=8).hits]
        tomorrow = str(int(time.time()) + 86_400)
        reduced = [_offer(one, n, promotion="Demo days", offer_until=tomorrow) for n, one in enumerate(liked[:4])]
        paid = [_offer(one, 4 + n, bid=str(0.1 * (n + 1))) for n, one in enumerate(liked[4:])]
        about = liked[0]
        campaign = types_pb2.Item(title=f"All around {about.title}", category_path=about.category_path)
        campaign = _offer(campaign, len(liked), kind="campaign", about=about.id)
        offered = [*reduced, *paid, campaign]
        self._client.upsert_items(offered, wait=admin_pb2.WAIT_INDEXED, timeout=60)
        for name, scene, items in (
            ("PROMOTION", PROMOTION, reduced),
            ("SPONSORED", SPONSORED, paid),
            ("CAMPAIGN", CAMPAIGN, [campaign]),
        ):
            answer = self._show(f"{hot}, {name}", self._recommend(scene, hot))
            own = {item.id for item in items}
            # A shop of one's own may have offers beside these.
            shown = {hit.item_id for hit in answer.hits} & {item.id for item in offered}
            self._checks.check(f"{name} shows what is its own", bool(shown) and shown <= own)
            self._checks.check(
                f"{name} labels paid places alone", all(hit.sponsored == (scene == SPONSORED) for hit in answer.hits)
            )
        home = {hit.item_id for hit in self._recommend(HOME, hot, size=100).hits}
        self._checks.check("the campaign is in no other scene", campaign.id not in home)
        brands = in_time(lambda: self._client.recommend_brands(shopper_id=hot, k=5))
        for one in brands.brands:
            titles = ", ".join(hit.title for hit in one.hits)
            self._console.print(f"[bold]{escape(one.brand)}[/bold] {one.score:.3f} [dim]{escape(titles[:90])}[/dim]")
        self._checks.check("brands answer where there are any", bool(brands.brands) == any(one.brand for one in liked))
        self._client.delete_items([admin_pb2.ItemRef(item_id=item.id) for item in offered])

    def the_next_models(self) -> None:
        """Visitors click, the log is exported, the next bundle is trained from it and takes over under traffic."""
        self._checks.scene("The next models from the traffic of these")
        for i in range(_VISITORS):
            self._visit(f"guest-{i % 8}")
        exported = self._shop.home / f"log-{uuid.uuid4().hex[:6]}"
        self._run(
            "export-events", "--out", str(exported), "--coldstart", self._stack.coldstart,
            "--retriever", self._stack.retriever,
        )  # fmt: skip
        self._checks.check("impressions are exported", any(exported.glob("impressions.*")))
        bundle = self._train(exported, "next")
        old = next(one.generation for one in self._client.generations() if one.serving)
        asked, failed, generations = self._switch_under_traffic(bundle)
        self._console.print(f"{asked} searches meanwhile, {failed} failed; generations seen: {len(generations)}")
        self._checks.check("no request failed while the models changed", asked > 0 and failed == 0)
        self._checks.check("the next generation serves", generations[-1] != old)
        self._client.retire(old, timeout=30)
        hot, _ = self._shoppers
        answer = self._show(f"{hot}, HOME, by the next models", self._recommend(HOME, hot))
        self._checks.check("and recommends", len(answer.hits) == 5 and answer.info.generation == generations[-1])

    def forget(self) -> None:
        """A shopper's right."""
        self._checks.scene("Forget a shopper")
        held = len(self._client.shopper("guest-1"))
        erased = self._client.forget_shopper("guest-1")
        self._console.print(f"guest-1: of {held} parts {erased.events} events, {erased.impressions} impressions erased")
        try:
            self._client.shopper("guest-1")
            self._checks.check("nothing is held any more", False)
        except grpc.aio.AioRpcError as error:
            self._checks.check("nothing is held any more", error.code() is grpc.StatusCode.NOT_FOUND)

    # ---- what they share ----

    @cached_property
    def _shoppers(self) -> tuple[str, str]:
        """One with many events and one with a few, of those in the log; of one language, so that readers can follow."""
        english = {item.id for item in read_items(self._shop.dataset) if item.title.isascii()}
        events = Counter[str]()
        foreign = Counter[str]()
        for event in read_events(self._shop.dataset):
            if event.item_id:
                events[event.shopper_id] += 1
                foreign[event.shopper_id] += event.item_id not in english
        readable = sorted(events, key=lambda shopper: (foreign[shopper] / events[shopper] > 0.2, shopper))
        hot = next(shopper for shopper in readable if events[shopper] >= _HOT_EVENTS)
        warm = next(shopper for shopper in readable if events[shopper] <= 4)
        return hot, warm

    def _recommend(
        self, scene: types_pb2.Scene.ValueType, shopper: str, items: Sequence[str] = (), size: int = 5
    ) -> shop_pb2.RecommendResponse:
        return in_time(
            lambda: self._client.recommend(scene, shopper_id=shopper, item_ids=items, page_size=size, explain=True)
        )

    def _show(self, title: str, answer: shop_pb2.RecommendResponse) -> shop_pb2.RecommendResponse:
        stage = types_pb2.Stage.Name(answer.stage).removeprefix("STAGE_").lower()
        self._console.print(f"[bold]{escape(title)}[/bold] ({stage})")
        self._console.print(hits_table(answer.hits, explain=True))
        self._console.print(info_line(answer.info))
        return answer

    def _event(
        self, shopper: str, item: str, kind: types_pb2.EventType.ValueType, request_id: str = "", position: int = 0
    ) -> None:
        event = types_pb2.Event(
            event_id=uuid.uuid4().hex,
            shopper_id=shopper,
            type=kind,
            item_id=item,
            request_id=request_id,
            position=position,
        )
        self._client.record_events([event])

    def _visit(self, shopper: str) -> None:
        answer = self._recommend(HOME, shopper, size=8)
        hit = random.Random(shopper + answer.info.request_id).choice(list(answer.hits))
        for kind in (types_pb2.EVENT_TYPE_CLICK, types_pb2.EVENT_TYPE_VIEW):
            self._event(shopper, hit.item_id, kind, answer.info.request_id, hit.position)

    def _train(self, dataset: Path, name: str) -> Path:
        models = self._shop.home / f"models-{name}-{uuid.uuid4().hex[:6]}"
        base = str(self._shop.bundle)
        where = ("--dataset", str(dataset), "--bundle", base)
        self._run("train", "borrow", *where, "--retriever", self._stack.retriever)
        self._run("train", "ranker", *where, "--out", str(models / "ranker"), "--minutes", str(self._minutes))
        self._run("train", "coldstart", *where, "--out", str(models / "coldstart"))
        out = models / "bundle"
        self._run(
            "bundle", "--encoder", base, "--ranker", str(models / "ranker"),
            "--coldstart", str(models / "coldstart"), "--out", str(out),
        )  # fmt: skip
        return out

    def _run(self, *arguments: str) -> None:
        self._console.print(f"[dim]$ python -m training {' '.join(arguments)}[/dim]", soft_wrap=True)
        done = subprocess.run([sys.executable, "-m", "training", *arguments], check=False)
        if done.returncode:
            raise SystemExit(f"python -m training {' '.join(arguments)}: exit code {done.returncode}")

    def _switch_under_traffic(self, bundle: Path) -> tuple[int, int, list[str]]:
        """Prepares and switches while searches go on; how many were asked, how many failed, generations in order."""
        stop = threading.Event()
        seen: list[str] = []
        counts = Counter[str]()

        def traffic() -> None:
            with self._stack.client() as client:
                while not stop.is_set():
                    counts["asked"] += 1
                    try:
                        generation = client.search("gift").info.generation
                    except grpc.aio.AioRpcError:
                        counts["failed"] += 1
                        continue
                    if not seen or seen[-1] != generation:
                        seen.append(generation)

        thread = threading.Thread(target=traffic)
        thread.start()
        try:
            began = time.monotonic()
            end = began + _PREPARE_SECONDS
            while True:
                try:
                    ready = self._client.prepare(str(bundle.resolve()), timeout=20)
                    break
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED or time.monotonic() > end:
                        raise
            self._checks.check("the next generation is ready", ready.state == generations_pb2.GENERATION_STATE_READY)
            self._client.switch(ready.generation, timeout=20)
            self._console.print(f"prepared and switched in {time.monotonic() - began:.1f} s, nothing embedded again")
            time.sleep(1.0)
        finally:
            stop.set()
            thread.join()
        return counts["asked"], counts["failed"], seen


def _offer(like: types_pb2.Item, number: int, **attributes: str) -> types_pb2.Item:
    """A new item like another one, with these attributes."""
    item = types_pb2.Item()
    item.CopyFrom(like)
    item.id, item.revision, item.stock = f"souk-demo-offer-{number}", time.time_ns() // 1_000_000, 50
    for name, value in attributes.items():
        item.attributes.add(name=name, values=[value])
    return item
