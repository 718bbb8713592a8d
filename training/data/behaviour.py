"""What shoppers of the generated shop do: events drawn from their tastes, popularity and position bias. Numpy only."""

from dataclasses import dataclass

import numpy as np

from souk.types.v1 import types_pb2
from training.data.shown import Pages
from training.data.world import (
    DAYS,
    DEPARTMENT,
    LEAVES,
    Bools,
    Catalogue,
    Floats,
    Ints,
    Market,
    Shoppers,
    appeal,
    stream,
)

PAGE_ITEMS = 16
_MAX_PAGES = 6
_PAGE_SECONDS = 150.0
# Chance that a shopper looks at the place (from 0) of a page: position bias.
EXAMINED: Floats = np.arange(1.0, PAGE_ITEMS + 1) ** np.float64(-0.7)
_CREATED_SCALE = 4096

SEARCH, HOME, SIMILAR = types_pb2.SCENE_SEARCH, types_pb2.SCENE_HOME, types_pb2.SCENE_SIMILAR
CART, NEW = types_pb2.SCENE_CART, types_pb2.SCENE_NEW_ARRIVALS
PROMOTION, CAMPAIGN = types_pb2.SCENE_PROMOTION, types_pb2.SCENE_CAMPAIGN

# How a query is put, and the share of each form.
NOUN, SYNONYM, NEED, COLOUR, BRAND, EXACT = range(6)
FORM_SHARE = (0.36, 0.17, 0.07, 0.2, 0.14, 0.06)


@dataclass
class Events:
    """Columns of events of one block; -1 (NaN for price) where an event has none. Shape (n,) each."""

    shopper: Ints
    type: Ints
    # Days since the log began.
    time: Floats
    item: Ints
    dwell_ms: Ints
    scene: Ints
    # Page within the block; a page becomes a request.
    page: Ints
    position: Ints
    quantity: Ints
    price: Floats
    # Query: form, group, variant (a random number), item it aims at.
    form: Ints
    group: Ints
    variant: Ints
    target: Ints


class Pool:
    """Weighted draws of the items of a group that are on offer on a day; the catalogue is ordered for it."""

    def __init__(self, catalogue: Catalogue) -> None:
        groups = 2 * len(LEAVES)
        self._keys = catalogue.group * float(_CREATED_SCALE) + catalogue.created
        self._begin = np.searchsorted(catalogue.group, np.arange(groups))
        self._mass = np.concatenate([[0.0], np.cumsum(catalogue.weight)])

    def draw(self, rng: np.random.Generator, group: Ints, day: Floats, newest_only: Bools) -> tuple[Ints, Bools]:
        """One item for each (group, day), any shape, and whether there was one; `newest_only`: of the last 60 days."""
        end = np.searchsorted(self._keys, group * float(_CREATED_SCALE) + day, side="right")
        recent = np.searchsorted(self._keys, group * float(_CREATED_SCALE) + np.maximum(day - 60, 0))
        begin = np.where(newest_only, recent, self._begin[group])
        low, high = self._mass[begin], self._mass[end]
        drawn = np.searchsorted(self._mass, low + rng.random(group.shape) * (high - low), side="right") - 1
        there = high > low
        return np.where(there, np.clip(drawn, 0, len(self._mass) - 2), 0), there


def simulate(
    seed: int,
    market: Market,
    catalogue: Catalogue,
    pool: Pool,
    shoppers: Shoppers,
    block: int,
    shown: list[Pages] | None = None,
) -> Events:
    """All events of one block of shoppers, ordered by shopper and time; what they were shown is added to `shown`."""
    return _Simulation(seed, market, catalogue, pool, shoppers, block, shown).run()


class _Simulation:
    def __init__(
        self,
        seed: int,
        market: Market,
        catalogue: Catalogue,
        pool: Pool,
        shoppers: Shoppers,
        block: int,
        shown: list[Pages] | None,
    ) -> None:
        self._rng = stream(seed, "behaviour", block)
        self._market, self._catalogue, self._pool, self._shoppers = market, catalogue, pool, shoppers
        self._parts: list[Events] = []
        self._shown = shown
        self._pages = 0

    def run(self) -> Events:
        rng, shoppers = self._rng, self._shoppers
        owner = np.repeat(np.arange(len(shoppers.sessions)), shoppers.sessions)
        start = self._session_starts(owner)
        order = np.lexsort((start, owner))
        owner, start = owner[order], start[order]
        pages = np.minimum(rng.geometric(0.38, len(owner)), _MAX_PAGES)
        checkout = start + (pages * _PAGE_SECONDS + 120) / 86400
        invited = self._invitations(owner, start)

        leaf = np.zeros(len(owner), np.int64)
        last = np.full(len(owner), -1)
        carted = np.zeros(len(owner), bool)
        bought: list[tuple[Ints, Ints, Floats]] = []
        for page in range(_MAX_PAGES):
            rows = np.flatnonzero(pages > page)
            scene = self._next_page(rows, page, owner, start, leaf, last, carted, invited)
            time = start[rows] + page * _PAGE_SECONDS / 86400
            bought.append(self._page(rows, owner, time, checkout, scene, leaf, last, carted))
        session, item, fit = (np.concatenate(part) for part in zip(*bought, strict=True))
        self._buy_again(owner, start, checkout, session, item)
        self._give_back(owner, checkout, session, item, fit)
        return self._ordered()

    def _session_starts(self, owner: Ints) -> Floats:
        """Sessions spread over a shopper's days, more of them before the end of a year, most in the evening."""
        rng = self._rng
        intensity = 1 + 0.6 * (np.arange(DAYS) % 365 > 315)
        mass = np.concatenate([[0.0], np.cumsum(intensity)])
        joined = self._shoppers.joined[owner]
        reached = mass[joined] + rng.random(len(owner)) * (mass[-1] - mass[joined])
        day = np.minimum(np.searchsorted(mass, reached, side="right") - 1, DAYS - 1)
        hour = np.clip(rng.normal(18, 3.5, len(owner)), 0.1, 23.4)
        started: Floats = day + hour / 24
        return started

    def _invitations(self, owner: Ints, start: Floats) -> Ints:
        """Leaf of the campaign that invites a session's shopper, -1 without. Shape (sessions,)."""
        invited = np.full(len(owner), -1)
        for leaf, first, last in self._market.campaigns.tolist():
            keen = self._shoppers.taste[:, leaf] > 1 / len(LEAVES)
            chosen = keen | (self._rng.random(len(keen)) < 0.1)
            invited[chosen[owner] & (start >= first) & (start < last)] = leaf
        return invited

    def _next_page(
        self, rows: Ints, page: int, owner: Ints, start: Floats, leaf: Ints, last: Ints, carted: Bools, invited: Ints
    ) -> Ints:
        """Scene of the next page of the sessions `rows`; sets their leaf."""
        rng = self._rng
        day = start[rows].astype(np.int64)
        month = (day % 365) // 31
        wish = np.cumsum(self._shoppers.taste[owner[rows]] * self._market.season[month], axis=1)
        wished = (wish < (rng.random(len(rows)) * wish[:, -1])[:, None]).sum(axis=1)
        stay = (rng.random(len(rows)) < 0.55) & (page > 0)
        leaf[rows] = np.where(stay, leaf[rows], wished)
        scene = rng.choice([SEARCH, HOME, NEW], len(rows), p=[0.56, 0.34, 0.1])
        onward = np.where((rng.random(len(rows)) < 0.5) & (last[rows] >= 0), SIMILAR, SEARCH)
        scene = np.where(stay, onward, scene)
        running = self._market.promotion[DEPARTMENT[leaf[rows]], day] >= 0
        scene = np.where(running & (rng.random(len(rows)) < 0.3), PROMOTION, scene)
        to_cart = stay & carted[rows] & (rng.random(len(rows)) < 0.4)
        leaf[rows] = np.where(to_cart, _GOES_WITH[leaf[rows]], leaf[rows])
        scene = np.where(to_cart, CART, scene)
        follows = (invited[rows] >= 0) & (page == 0) & (rng.random(len(rows)) < 0.5)
        leaf[rows] = np.where(follows, invited[rows], leaf[rows])
        return np.where(follows, CAMPAIGN, scene)

    def _page(
        self,
        rows: Ints,
        owner: Ints,
        time: Floats,
        checkout: Floats,
        scene: Ints,
        leaf: Ints,
        last: Ints,
        carted: Bools,
    ) -> tuple[Ints, Ints, Floats]:
        """Show a page to each session of `rows` and note what is done; returns purchases as session, item, appeal."""
        rng, catalogue, market = self._rng, self._catalogue, self._market
        shopper = owner[rows]
        shape = (len(rows), PAGE_ITEMS)
        abroad = rng.random(len(rows)) < 0.04
        group = 2 * leaf[rows] + np.where(
            abroad, 1 - self._shoppers.language[shopper], self._shoppers.language[shopper]
        )
        shown_group = np.broadcast_to(group[:, None], shape).copy()
        elsewhere = (scene == HOME)[:, None] & (rng.random(shape) < 0.6)
        other = rng.choice(len(LEAVES), int(elsewhere.sum()), p=market.leaf_share)
        shown_group[elsewhere] = 2 * other + np.broadcast_to((group % 2)[:, None], shape)[elsewhere]
        day = np.broadcast_to(time[:, None], shape)
        item, there = self._pool.draw(rng, shown_group, day, np.broadcast_to((scene == NEW)[:, None], shape))
        there &= ~_repeated(item)

        searching = scene == SEARCH
        form = np.where(searching, rng.choice(len(FORM_SHARE), len(rows), p=FORM_SHARE), -1)
        # The first item drawn is what an exact query aims at, and whose colour or brand others name.
        target = np.where(there[:, 0], item[:, 0], -1)
        form = np.where(searching & (target < 0), NOUN, form)
        match = np.zeros(shape)
        aim = target[:, None]
        match += (form == COLOUR)[:, None] * (catalogue.colour[item] == catalogue.colour[aim]) * 1.2
        match += (form == BRAND)[:, None] * (catalogue.brand[item] == catalogue.brand[aim]) * 1.2
        match += (form == EXACT)[:, None] * (item == aim) * 3.0
        seen = last[rows][:, None]
        alike = (scene == SIMILAR)[:, None] * (catalogue.brand[item] == catalogue.brand[seen]) * 1.0
        running = market.promotion[DEPARTMENT[shown_group // 2], day.astype(np.int64)]
        reduced = (running >= 0) & ((catalogue.promotion_slot[item] + running) % 8 == 0)
        there &= reduced | (scene != PROMOTION)[:, None] | (rng.random(shape) < 0.3)

        # The shop orders by demand with some noise; what does not exist goes last.
        strength = 0.6 * np.log(catalogue.weight[item] + 1e-9) + match + alike + reduced
        display = strength + rng.gumbel(0, 1, shape)
        ranked = np.argsort(np.where(there, -display, np.inf), axis=1, kind="stable")
        item, there = np.take_along_axis(item, ranked, 1), np.take_along_axis(there, ranked, 1)
        match, reduced = np.take_along_axis(match, ranked, 1), np.take_along_axis(reduced, ranked, 1)
        discount = np.where(reduced, market.discount[np.take_along_axis(running, ranked, 1)], 0.0)

        fit = appeal(market, catalogue, self._shoppers, shopper, item)
        taste = self._shoppers.taste[shopper[:, None], catalogue.group[item] // 2]
        pull = (scene == HOME)[:, None] * np.clip(np.log(taste * len(LEAVES) + 1e-9), -2.5, 1.5)
        wanted = fit + match + pull + 0.8 * reduced
        examined = there & (rng.random(shape) < EXAMINED)
        chance = _sigmoid(wanted - 0.9)
        clicked = examined & (rng.random(shape) < chance)
        skipped = examined & ~clicked & (scene == HOME)[:, None] & (rng.random(shape) < 0.06 * _sigmoid(-wanted))
        in_cart = clicked & (rng.random(shape) < _sigmoid(1.1 * wanted - 0.3))
        taken_out = in_cart & (rng.random(shape) < 0.08)
        purchased = in_cart & ~taken_out & (rng.random(shape) < 0.7)

        page = self._pages + np.arange(len(rows))
        self._pages += len(rows)
        query = (form, group, rng.integers(0, 2**31, len(rows)), target)
        if self._shown is not None:
            strength = np.take_along_axis(strength, ranked, 1)
            became = (chance, clicked, in_cart, purchased)
            self._shown.append(Pages(page, shopper, time, scene, *query, item, there, strength, *became))
        at = np.flatnonzero(searching)
        self._note(
            types_pb2.EVENT_TYPE_SEARCH, shopper[at], time[at], page=page[at], scene=SEARCH, query=_of(query, at)
        )
        price = np.round(catalogue.price[item] * (1 - discount), 2)
        # Clicks of a page follow each other at their own pace.
        turn = np.cumsum(clicked, axis=1)
        moment = time[:, None] + (4 + 10 * turn) / 86400
        dwell = (1000 * np.exp(rng.normal(2.6, 0.8, shape) + 0.3 * fit)).astype(np.int64)
        for kind, where, when in (
            (types_pb2.EVENT_TYPE_SKIP, skipped, moment),
            (types_pb2.EVENT_TYPE_CLICK, clicked, moment),
            (types_pb2.EVENT_TYPE_VIEW, clicked, moment + 1 / 86400),
            (types_pb2.EVENT_TYPE_CART, in_cart, moment + 9 / 86400),
            (types_pb2.EVENT_TYPE_UNCART, taken_out, np.broadcast_to(checkout[rows][:, None] - 60 / 86400, shape)),
            (types_pb2.EVENT_TYPE_PURCHASE, purchased, np.broadcast_to(checkout[rows][:, None], shape)),
        ):
            row, place = np.nonzero(where)
            paid = kind in (types_pb2.EVENT_TYPE_CART, types_pb2.EVENT_TYPE_UNCART, types_pb2.EVENT_TYPE_PURCHASE)
            self._note(
                kind,
                shopper[row],
                when[row, place],
                item=item[row, place],
                page=page[row],
                scene=scene[row],
                position=place,
                price=price[row, place] if paid else None,
                dwell=dwell[row, place] if kind == types_pb2.EVENT_TYPE_VIEW else None,
                query=_of(query, row),
            )
        row, place = np.nonzero(clicked)
        last[rows[row]] = item[row, place]
        carted[rows] |= in_cart.any(axis=1)
        row, place = np.nonzero(purchased)
        return rows[row], item[row, place], fit[row, place]

    def _buy_again(self, owner: Ints, start: Floats, checkout: Floats, session: Ints, item: Ints) -> None:
        """Repeat purchases, in the first session of the shopper after the item has been used up."""
        rng = self._rng
        again = 0.1 + 0.9 * np.array([leaf.replenished for leaf in LEAVES])
        # Sessions are ordered by shopper and time, so one number finds the next session after a moment.
        keys = owner * 2.0 * DAYS + start
        bought = session * len(self._catalogue.number) + item
        while len(session):
            go_on = rng.random(len(session)) < again[self._catalogue.group[item] // 2]
            session, item = session[go_on], item[go_on]
            due = start[session] + rng.lognormal(3.3, 0.5, len(session))
            following = np.searchsorted(keys, owner[session] * 2.0 * DAYS + due)
            following = np.minimum(following, len(keys) - 1)
            pair = following * len(self._catalogue.number) + item
            new = np.zeros(len(pair), bool)
            new[np.unique(pair, return_index=True)[1]] = True
            new &= ~np.isin(pair, bought)
            there = (owner[following] == owner[session]) & (start[following] >= due) & (due < DAYS) & new
            session, item, bought = following[there], item[there], np.concatenate([bought, pair[there]])
            moment = checkout[session]
            shopper = owner[session]
            price = self._catalogue.price[item]
            self._note(types_pb2.EVENT_TYPE_VIEW, shopper, moment - 40 / 86400, item=item)
            self._note(types_pb2.EVENT_TYPE_PURCHASE, shopper, moment, item=item, price=price)

    def _give_back(self, owner: Ints, checkout: Floats, session: Ints, item: Ints, fit: Floats) -> None:
        """Returns, sooner of what pleases less."""
        rng = self._rng
        rate = np.array([leaf.returned for leaf in LEAVES])[self._catalogue.group[item] // 2]
        moment = checkout[session] + rng.uniform(3, 20, len(session))
        given = (rng.random(len(session)) < 1.4 * rate * _sigmoid(0.4 - 0.8 * fit)) & (moment < DAYS)
        self._note(
            types_pb2.EVENT_TYPE_RETURN,
            owner[session[given]],
            moment[given],
            item=item[given],
            price=self._catalogue.price[item[given]],
        )

    def _note(
        self,
        kind: int,
        shopper: Ints,
        time: Floats,
        *,
        item: Ints | None = None,
        page: Ints | None = None,
        scene: Ints | int = 0,
        position: Ints | None = None,
        price: Floats | None = None,
        dwell: Ints | None = None,
        query: tuple[Ints, Ints, Ints, Ints] | None = None,
    ) -> None:
        count = len(shopper)
        none = np.full(count, -1)
        form, group, variant, target = query if query is not None else (none, none, none, none)
        quantity = none
        if price is not None:
            quantity = np.ones(count, np.int64)
            if kind == types_pb2.EVENT_TYPE_PURCHASE:
                quantity = 1 + self._rng.poisson(0.2, count)
        self._parts.append(
            Events(
                shopper=shopper,
                type=np.full(count, kind),
                time=time,
                item=none if item is None else item,
                dwell_ms=none if dwell is None else dwell,
                scene=np.broadcast_to(np.asarray(scene), (count,)),
                page=none if page is None else page,
                position=none if position is None else position,
                quantity=quantity,
                price=np.full(count, np.nan) if price is None else price,
                form=form,
                group=group,
                variant=variant,
                target=target,
            )
        )

    def _ordered(self) -> Events:
        columns = {
            name: np.concatenate([getattr(part, name) for part in self._parts]) for name in Events.__dataclass_fields__
        }
        order = np.lexsort((columns["type"], columns["time"], columns["shopper"]))
        return Events(**{name: column[order] for name, column in columns.items()})


_LEAF_OF = {leaf.path[2][0]: index for index, leaf in enumerate(LEAVES)}
_GOES_WITH: Ints = np.array([_LEAF_OF[leaf.goes_with] for leaf in LEAVES])


def _repeated(item: Ints) -> Bools:
    """Whether an item stands in the same row already, shape as `item`."""
    order = np.argsort(item, axis=1, kind="stable")
    ordered = np.take_along_axis(item, order, 1)
    again = np.zeros(item.shape, bool)
    np.put_along_axis(again, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], 1)
    return again


def _of(query: tuple[Ints, Ints, Ints, Ints], rows: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    form, group, variant, target = query
    return form[rows], group[rows], variant[rows], target[rows]


def _sigmoid(x: Floats) -> Floats:
    chance: Floats = 1 / (1 + np.exp(-x))
    return chance
