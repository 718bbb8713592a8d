"""The truth of the generated shop: its items and shoppers as arrays, drawn from a seed. Numpy only.

Every draw comes from a stream named by (seed, purpose, block), so that any block can be drawn alone and again.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.data import lexicon

# Changes whenever the same arguments would give other data.
GENERATOR_VERSION = "1"
# The log begins on 2024-01-01 UTC and covers two years; days below count from there.
START = np.datetime64("2024-01-01", "us")
DAYS = 730
STYLE_DIM = 4
SHOPPER_BLOCK = 1000

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

LEAVES = lexicon.LEAVES
# Index of the department of every leaf.
_DEPARTMENTS = tuple(dict.fromkeys(leaf.path[0] for leaf in LEAVES))
DEPARTMENT: Ints = np.array([_DEPARTMENTS.index(leaf.path[0]) for leaf in LEAVES])
_CHINESE_SHARE = 0.3
_NEW_DAYS = 14


def stream(seed: int, purpose: str, block: int = 0) -> np.random.Generator:
    """The random numbers of one purpose and block."""
    return np.random.Generator(np.random.PCG64([seed, block, *purpose.encode()]))


@dataclass(frozen=True)
class Catalogue:
    """Items as arrays of shape (items,), ordered by group and then by created; `number` is the shuffled public one."""

    number: Ints
    # 2 x leaf + language (0 English, 1 Chinese).
    group: Ints
    brand: Ints
    colour: Ints
    kind: Ints
    feature: Ints
    # -1 where the leaf has none.
    material: Ints
    size: Ints
    # Code of the invented series and of the model number; -1 without.
    series: Ints
    model: Ints
    price: Floats
    # log(price / median of the leaf) / 0.5.
    price_level: Floats
    # Base demand, and how well made it is.
    weight: Floats
    quality: Floats
    # Day of first offer, 0 to DAYS.
    created: Floats
    stock: Ints
    hidden: Bools
    # Slot 0 to 7 that decides which promotions of its department take the item in.
    promotion_slot: Ints


@dataclass(frozen=True)
class Market:
    """What is the same for all: styles of brands and colours, demographic pulls, promotions and campaigns."""

    # Shape (brands, STYLE_DIM) and (colours, STYLE_DIM).
    brand_style: Floats
    colour_style: Floats
    # Share of demand of each leaf, shape (leaves,).
    leaf_share: Floats
    # Demand multiplier of each leaf in each month, shape (12, leaves).
    season: Floats
    # Pull of an age band and of a country to each leaf, shape (bands or countries, leaves).
    age_pull: Floats
    country_pull: Floats
    # Running promotion of each department and day, -1 for none, shape (departments, DAYS); its discount by promotion.
    promotion: Ints
    discount: Floats
    # Campaigns: leaf, first day, last day, shape (campaigns, 3).
    campaigns: Ints


@dataclass(frozen=True)
class Shoppers:
    """A block of shoppers as arrays of shape (block,) unless said otherwise."""

    country: Ints
    age: Ints
    # Whether the shop knows country and age.
    known: Bools
    language: Ints
    # Shape (block, leaves), rows sum to 1; (block, STYLE_DIM).
    taste: Floats
    style: Floats
    # Preferred price_level.
    price_level: Floats
    joined: Ints
    sessions: Ints


def draw_market(seed: int) -> Market:
    """The market of a seed."""
    rng = stream(seed, "market")
    leaves = len(LEAVES)
    month = np.arange(1, 13)[:, None]
    peak = np.array([leaf.peak for leaf in LEAVES])
    swing = np.array([leaf.season for leaf in LEAVES])
    share = rng.lognormal(0, 0.6, leaves)
    promotion = np.full((len(_DEPARTMENTS), DAYS), -1)
    discounts: list[float] = []
    for department in range(len(_DEPARTMENTS)):
        for quarter in range(0, DAYS, 90):
            first = quarter + int(rng.integers(0, 75))
            promotion[department, first : first + 12] = len(discounts)
            discounts.append(round(float(rng.uniform(0.1, 0.35)), 2))
    opening = rng.integers(20, DAYS - 30, 10)
    campaigns = np.stack([rng.integers(0, leaves, 10), opening, opening + 30], axis=1)
    departments = len(_DEPARTMENTS)
    return Market(
        brand_style=rng.normal(0, 1, (len(lexicon.BRANDS), STYLE_DIM)),
        colour_style=rng.normal(0, 0.6, (len(lexicon.COLOURS), STYLE_DIM)),
        leaf_share=share / share.sum(),
        season=1 + swing * np.cos(2 * np.pi * (month - peak) / 12),
        age_pull=rng.lognormal(0, 0.6, (len(lexicon.AGE_BANDS), departments))[:, DEPARTMENT],
        country_pull=rng.lognormal(0, 0.4, (len(lexicon.COUNTRIES), departments))[:, DEPARTMENT],
        promotion=promotion,
        discount=np.array(discounts),
        campaigns=campaigns,
    )


def draw_catalogue(seed: int, items: int) -> Catalogue:
    """All items; about 150 bytes of memory each."""
    rng = stream(seed, "catalogue")
    group = 2 * rng.integers(0, len(LEAVES), items) + (rng.random(items) < _CHINESE_SHARE)
    # Half of the range is there in the first two months, some is brand-new at the end.
    phase = rng.random(items)
    created = np.where(phase < 0.5, rng.uniform(0, 60, items), rng.uniform(0, DAYS - _NEW_DAYS, items))
    created = np.where(phase > 0.96, rng.uniform(DAYS - _NEW_DAYS, DAYS - 0.1, items), created)
    order = np.lexsort((created, group))
    group, created = group[order], created[order]
    leaf = group // 2

    def pick(counts: list[int]) -> Ints:
        """An index below the leaf's count for every item, -1 where that is 0."""
        count = np.array(counts)[leaf]
        return np.where(count > 0, (rng.random(items) * count).astype(np.int64), -1)

    # Twelve brands in each leaf, of falling share.
    ranks = 1 / np.arange(1, 13) ** 0.8
    brands = np.stack([rng.permutation(len(lexicon.BRANDS))[:12] for _ in LEAVES])
    brand = brands[leaf, rng.choice(12, items, p=ranks / ranks.sum())]
    tier = rng.normal(0, 0.3, len(lexicon.BRANDS))
    median = np.array([one.price for one in LEAVES])[leaf]
    price = np.maximum(0.5, np.round(median * np.exp(tier[brand] + rng.normal(0, 0.35, items)), 2))
    quality = rng.normal(0, 1, items)
    weight = np.exp(rng.normal(0, 1.0, items) + 0.3 * quality)
    hidden = rng.random(items) < 0.02
    stock = np.where(rng.random(items) < 0.06, 0, rng.geometric(0.02, items))
    # Brands have about one series for every eight items of a leaf; a third of the items belongs to one.
    series_of_brand = max(1, items // (len(LEAVES) * 2 * 12 * 8))
    series = (leaf * len(lexicon.BRANDS) + brand) * series_of_brand + rng.integers(0, series_of_brand, items)
    series = np.where(rng.random(items) < 0.33, series, -1)
    modelled = np.array([one.modelled for one in LEAVES])[leaf]
    return Catalogue(
        number=rng.permutation(items),
        group=group,
        brand=brand,
        colour=rng.integers(0, len(lexicon.COLOURS), items),
        kind=pick([len(one.kinds) for one in LEAVES]),
        feature=pick([len(one.features) for one in LEAVES]),
        material=pick([len(lexicon.MATERIALS.get(one.material, ())) for one in LEAVES]),
        size=pick([len(lexicon.SIZES.get(one.size, ())) for one in LEAVES]),
        series=series,
        model=np.where(modelled, np.arange(items), -1),
        price=price,
        price_level=np.log(price / median) / 0.5,
        weight=np.where(hidden, 0.0, weight),
        quality=quality,
        created=created,
        stock=stock,
        hidden=hidden,
        promotion_slot=rng.integers(0, 8, items),
    )


def draw_shoppers(seed: int, market: Market, block: int, count: int) -> Shoppers:
    """The shoppers of one block: `count` of them."""
    rng = stream(seed, "shoppers", block)
    share = np.array([one[1] for one in lexicon.COUNTRIES])
    country = rng.choice(len(share), count, p=share / share.sum())
    age = rng.choice(len(lexicon.AGE_BANDS), count, p=[0.16, 0.3, 0.24, 0.16, 0.14])
    chinese = np.array([one[2] for one in lexicon.COUNTRIES])[country]
    pull = market.age_pull[age] * market.country_pull[country] * market.leaf_share * len(LEAVES)
    # A Dirichlet draw with small weights: a few leaves hold most of a shopper's interest.
    taste = rng.gamma(0.3 * pull) + 1e-6
    phase = rng.random(count)
    joined = np.where(phase < 0.45, rng.integers(0, 60, count), rng.integers(0, DAYS - _NEW_DAYS, count))
    joined = np.where(phase > 0.94, rng.integers(DAYS - _NEW_DAYS, DAYS, count), joined)
    activity = rng.lognormal(1.95, 0.95, count) * np.sqrt((DAYS - joined) / DAYS)
    sessions = np.clip(np.ceil(activity).astype(np.int64), 1, 150)
    return Shoppers(
        country=country,
        age=age,
        known=rng.random(count) < 0.8,
        language=(rng.random(count) < chinese).astype(np.int64),
        taste=taste / taste.sum(axis=1, keepdims=True),
        style=rng.normal(0, 1, (count, STYLE_DIM)),
        price_level=rng.normal(0, 0.8, count),
        joined=joined,
        # Some have signed up and done nothing yet.
        sessions=np.where(rng.random(count) < 0.02, 0, sessions),
    )


def item_style(market: Market, catalogue: Catalogue, items: Ints) -> Floats:
    """Style of the given items, shape items.shape + (STYLE_DIM,)."""
    return market.brand_style[catalogue.brand[items]] + market.colour_style[catalogue.colour[items]]


def appeal(market: Market, catalogue: Catalogue, shoppers: Shoppers, rows: Ints, items: Ints) -> Floats:
    """How much an item pleases a shopper beyond its leaf: style, price and quality.

    `rows` are shoppers of the block, shape (n,); `items` shape (n, k). Returns shape (n, k), about zero on average.
    """
    style = np.einsum("nkd,nd->nk", item_style(market, catalogue, items), shoppers.style[rows]) / STYLE_DIM**0.5
    distance = catalogue.price_level[items] - shoppers.price_level[rows][:, None]
    fit: Floats = 0.9 * style - 0.4 * distance**2 + 0.4 * catalogue.quality[items]
    return fit
