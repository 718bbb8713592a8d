"""A catalogue of any size for `loadtest.growth_bench`: the generated shop's items, a vector for each, and what an exact
search of them finds. Everything is made of the item's number, block by block, so that a million fit in little memory.
"""

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import grpc.aio
import numpy as np
from numpy.typing import NDArray

from services.domain.bundle import EncoderManifest
from souk.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from souk.types.v1 import types_pb2
from souk.vectors import Float32, pack_matrix
from training.data.wording import ITEM_CHUNK, item_id, item_rows
from training.data.world import draw_catalogue

SEED = 7
_BLOCK = 4_096
# Vectors of these blocks are nobody's: queries.
_QUERIES = 1_000_000
_ITEMS_OF_A_CENTRE = 100
_SPREAD = 0.6


class GrowthShop:
    """Items numbered from 0; numbers from `items` on are new ones, of the same clusters."""

    def __init__(self, items: int, dim: int) -> None:
        self.items = items
        self._dim = dim
        self._catalogue = draw_catalogue(SEED, items)
        self._order = np.argsort(self._catalogue.number)
        random = np.random.default_rng([SEED, dim])
        self._centres = random.standard_normal((max(1, items // _ITEMS_OF_A_CENTRE), dim), dtype=np.float32)
        self._block = lru_cache(maxsize=16)(self._made)

    def item(self, number: int, title: str) -> types_pb2.Item:
        """A new item, of a price like the others'."""
        price = float(prices(np.array([number]))[0])
        return types_pb2.Item(id=item_id(number), revision=1, title=title, price=price, currency="EUR")

    def batches(self, first: int, size: int) -> Iterator[list[types_pb2.Item]]:
        """The items from number `first` on, `size` at a time; whole chunks of the generator are made at once."""
        for chunk in range(first // ITEM_CHUNK, -(-self.items // ITEM_CHUNK)):
            begin = chunk * ITEM_CHUNK
            rows = item_rows(SEED, self._catalogue, chunk, self._order[begin : begin + ITEM_CHUNK])
            each = prices(np.arange(begin, begin + len(rows)))
            made = [_item(row, price) for row, price in zip(rows, each.tolist(), strict=True)]
            made = made[max(0, first - begin) :]
            yield from (made[start : start + size] for start in range(0, len(made), size))

    def vectors(self, numbers: Sequence[int]) -> Float32:
        """Vectors of items, shape (numbers, dim), at length 1."""
        return np.stack([self._block(number // _BLOCK)[number % _BLOCK] for number in numbers])

    def queries(self, count: int) -> Float32:
        """Vectors of the same clusters that are no item's, shape (count, dim)."""
        return self.vectors(range(_QUERIES * _BLOCK, _QUERIES * _BLOCK + count))

    def nearest(self, queries: Float32, shares: Sequence[float], k: int) -> dict[float, list[set[str]]]:
        """By share of items allowed: ids of the k nearest to each query among the items no dearer than `share`."""
        count = len(queries)
        scores = {share: np.full((count, k), -np.inf, dtype=np.float32) for share in shares}
        numbers = {share: np.full((count, k), -1) for share in shares}
        for begin in range(0, self.items, _BLOCK):
            block = np.arange(begin, min(begin + _BLOCK, self.items))
            near = queries @ self._made(begin // _BLOCK)[: len(block)].T
            for share in shares:
                allowed = prices(block) <= share
                both = np.concatenate((scores[share], near[:, allowed]), axis=1)
                ids = np.concatenate((numbers[share], np.broadcast_to(block[allowed], (count, allowed.sum()))), axis=1)
                best = np.argpartition(-both, k - 1, axis=1)[:, :k]
                scores[share] = np.take_along_axis(both, best, axis=1)
                numbers[share] = np.take_along_axis(ids, best, axis=1)
        return {
            share: [{item_id(number) for number in row if number >= 0} for row in numbers[share].tolist()]
            for share in shares
        }

    def _made(self, block: int) -> Float32:
        random = np.random.default_rng([SEED, self._dim, block])
        vectors = self._centres[random.integers(len(self._centres), size=_BLOCK)]
        vectors += _SPREAD * random.standard_normal((_BLOCK, self._dim), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


def prices(numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Prices spread evenly over 0 to 1 without order: a range up to .1 allows a tenth of the items."""
    return (numbers * 2_654_435_761 % 2**32) / 2**32


def _item(row: dict[str, Any], price: float) -> types_pb2.Item:
    attributes = json.loads(row["attributes"])
    return types_pb2.Item(
        id=row["item_id"],
        revision=1,
        title=row["title"],
        description=row["description"],
        brand=row["brand"],
        category_path=row["category"].split(" > "),
        price=price,
        currency="EUR",
        attributes=[types_pb2.Attribute(name=name, values=values) for name, values in attributes.items()],
        popularity=row["popularity"],
    )


class GivenVectors(embedder_pb2_grpc.EmbedderServicer):
    """Stands in for the embedder: gives items the vectors of the shop, so that no encoder is measured."""

    def __init__(self, shop: GrowthShop, encoder: EncoderManifest) -> None:
        self._shop = shop
        self._encoder = encoder

    async def GetInfo(  # noqa: N802 - as in the protos
        self, request: embedder_pb2.GetInfoRequest, context: Any
    ) -> embedder_pb2.GetInfoResponse:
        """The batch that a real one takes."""
        return embedder_pb2.GetInfoResponse(max_batch=64)

    async def Embed(  # noqa: N802
        self, request: embedder_pb2.EmbedRequest, context: Any
    ) -> embedder_pb2.EmbedResponse:
        """Vectors by the items' ids."""
        vectors = self._shop.vectors([int(one.item.id[1:]) for one in request.inputs])
        return embedder_pb2.EmbedResponse(
            vectors=pack_matrix(vectors),
            readings=[embedder_pb2.Reading(tokens=1, covered=True)] * len(vectors),
            space_version=self._encoder.space_version,
        )


async def serve_vectors(shop: GrowthShop, encoder: EncoderManifest) -> tuple[grpc.aio.Server, str]:
    """Starts the stand-in; the server and its address."""
    server = grpc.aio.server()
    embedder_pb2_grpc.add_EmbedderServicer_to_server(GivenVectors(shop, encoder), server)  # type: ignore[abstract]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"
