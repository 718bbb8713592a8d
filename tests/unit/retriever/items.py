"""Items and changes that the tests of the derived indexes share."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.retriever.changes import AppliedChange
from services.retriever.index import CatalogueIndex
from souk.retriever.v1 import retriever_pb2
from souk.types.v1 import types_pb2
from souk.vectors import Float32, pack_vector

CONTENT = types_pb2.SPACE_CONTENT
GENERATION = "a" * 64
VERSION = "v1"
DIM = 16


class Feed:
    """Numbers changes and gives them to an index."""

    def __init__(self, index: CatalogueIndex) -> None:
        self.index = index
        self.sequence = index.sequence
        self.revisions: dict[str, int] = {}

    def item(self, item_id: str, **fields: object) -> AppliedChange:
        """The change that writes an item under its next revision."""
        revision = self.revisions[item_id] = self.revisions.get(item_id, 0) + 1
        item = make_item(item_id, revision=revision, **fields)
        return AppliedChange(self._next(), item_id, revision, item=item)

    def removal(self, item_id: str) -> AppliedChange:
        """The change that takes an item out."""
        revision = self.revisions[item_id] = self.revisions.get(item_id, 0) + 1
        return AppliedChange(self._next(), item_id, revision, removed=True)

    def vector(self, item_id: str, vector: Float32 | None, version: str = VERSION) -> AppliedChange:
        """The change that brings a vector made from an item's latest revision."""
        return AppliedChange(
            self._next(),
            item_id,
            self.revisions[item_id],
            space=CONTENT,
            space_version=version,
            vector=vector,
            covered=vector is not None,
        )

    def put(self, item_id: str, vector: Float32 | None = None, **fields: object) -> None:
        """Writes an item and, if given, its vector."""
        changes = [self.item(item_id, **fields)]
        if vector is not None:
            changes.append(self.vector(item_id, vector))
        self.index.apply(changes)

    def _next(self) -> int:
        self.sequence += 1
        return self.sequence


def make_item(item_id: str, **fields: object) -> types_pb2.Item:
    """An item with a title; `attributes` may be a dict of lists."""
    attributes = fields.pop("attributes", {})
    assert isinstance(attributes, dict)
    item = types_pb2.Item(id=item_id, **{"title": item_id, "revision": 1, **fields})  # type: ignore[arg-type]
    for name, values in attributes.items():
        item.attributes.add(name=name, values=values)
    return item


def new_index(dim: int = DIM) -> CatalogueIndex:
    """An empty index with one content space that serves."""
    index = CatalogueIndex()
    index.add_space(CONTENT, VERSION, dim, GENERATION)
    index.set_serving(GENERATION)
    return index


def random_vectors(count: int, dim: int = DIM, seed: int = 0) -> Float32:
    """Vectors without structure, shape (count, dim)."""
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)


def clustered(count: int, dim: int, clusters: int, seed: int = 0) -> tuple[Float32, NDArray[np.int64]]:
    """Vectors around centres, as embeddings of a catalogue are, shape (count, dim), and the cluster of each."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((clusters, dim))
    cluster = random.integers(clusters, size=count)
    vectors = centres[cluster] + 0.6 * random.standard_normal((count, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), cluster


def vector_leg(vector: Float32, name: str = "near", **fields: object) -> retriever_pb2.Leg:
    """A leg for what is near a vector."""
    leg = retriever_pb2.Leg(name=name, **fields)  # type: ignore[arg-type]
    leg.vector.space = CONTENT
    leg.vector.vector.CopyFrom(pack_vector(vector))
    return leg


def words_leg(query: str, name: str = "words", **fields: object) -> retriever_pb2.Leg:
    """A leg for words."""
    return retriever_pb2.Leg(name=name, words=retriever_pb2.WordsLeg(query=query), **fields)  # type: ignore[arg-type]


def item_leg(item_id: str, name: str = "like") -> retriever_pb2.Leg:
    """A leg for what is near an item."""
    return retriever_pb2.Leg(name=name, item=retriever_pb2.ItemLeg(space=CONTENT, item_id=item_id))


def ids_leg(scores: dict[str, float], name: str = "list", **fields: object) -> retriever_pb2.Leg:
    """A leg of items already chosen."""
    items = [types_pb2.ScoredId(item_id=item_id, score=score) for item_id, score in scores.items()]
    return retriever_pb2.Leg(name=name, ids=retriever_pb2.IdsLeg(items=items), **fields)  # type: ignore[arg-type]


def popular_leg(name: str = "popular") -> retriever_pb2.Leg:
    """A leg of the most popular items."""
    return retriever_pb2.Leg(name=name, popular=retriever_pb2.PopularLeg())


def ask(*legs: retriever_pb2.Leg, k: int = 10, **fields: object) -> retriever_pb2.SearchRequest:
    """A search."""
    return retriever_pb2.SearchRequest(legs=legs, k=k, **fields)  # type: ignore[arg-type]


def found(response: retriever_pb2.SearchResponse) -> Sequence[str]:
    """Ids of the candidates, best first."""
    return list(response.candidates.id)
