"""What one generation lets coldstart say: topics of content vectors, behaviour vectors guessed from content, and the
blend of strategies over its catalogue and the items that came after it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from services.domain.blended import Blended, Newcomer
from services.domain.bundle import Bundle
from souk.vectors import Float32


@dataclass(frozen=True)
class Topics:
    """The topic space: u = softmax(W x + b) of a content vector x; W (topics, content dim), b (topics,)."""

    version: str
    labels: tuple[str, ...]
    weights: Float32
    bias: Float32

    def of(self, content: Float32) -> Float32:
        """Topic vectors (n, topics), each summing to 1, of content vectors (n, content dim)."""
        logits = content @ self.weights.T + self.bias
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: Float32 = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
        return shares


@dataclass(frozen=True)
class Behaviour:
    """The behaviour space: learned vectors of items known to the training, and a projection of content for others,
    which is all zeros where the training knew no content."""

    version: str
    rows: dict[str, int]
    vectors: Float32
    weights: Float32
    bias: Float32

    def of(
        self, item_id: str, content: Float32 | None, about: Mapping[str, Float32 | None] | None = None
    ) -> Float32 | None:
        """The item's vector (dim,), of length 1; None where neither the training nor the encoder knows the item.

        `about`: the content vectors of items whose middle is the vector, where the training did not know the item.
        """
        row = self.rows.get(item_id)
        if row is not None:
            known: Float32 = self.vectors[row]
            return known
        found = [vector for other, held in (about or {}).items() if (vector := self.of(other, held)) is not None]
        if found:
            return _of_length_one(np.mean(found, axis=0))
        return None if content is None else _of_length_one(content @ self.weights + self.bias)


def _of_length_one(vector: Float32) -> Float32 | None:
    length = float(np.linalg.norm(vector))
    return (vector / length).astype(np.float32) if length else None


class Knowledge:
    """One generation's; either part is None where its bundle has none."""

    def __init__(
        self,
        generation: str,
        content_version: str,
        content_dim: int,
        topics: Topics | None,
        behaviour: Behaviour | None,
        blended: Blended | None = None,
    ) -> None:
        self.generation = generation
        self.content_version = content_version
        self.content_dim = content_dim
        self.topics = topics
        self.behaviour = behaviour
        self.blended = blended
        """Of the catalogue at the training and of the newcomers that it followed; replaced as a whole."""
        self._trained = blended
        self._followed: frozenset[str] = frozenset()
        self.closed: Callable[[], Awaitable[None]] | None = None
        """Told when the generation is let go."""

    @classmethod
    def of(cls, bundle: Bundle) -> "Knowledge":
        """Reads what the bundle holds. Raises ValueError naming the file whose arrays do not fit the manifest."""
        encoder = bundle.manifest.encoder
        parts = _topics(bundle), _behaviour(bundle), _blended(bundle)
        return cls(bundle.generation, encoder.space_version, encoder.dim, *parts)

    def follow(self, items: Sequence[str], told: Callable[[Sequence[str]], Sequence[Newcomer]]) -> None:
        """Has the blend speak of those of the items that the training did not know; `told` gives what is known of them,
        nothing of one that has no vector yet. From one thread."""
        if self._trained is None:
            return
        newcomers = told([item for item in items if item not in self._trained.rows])
        if (names := frozenset(one.item for one in newcomers)) != self._followed:
            self.blended, self._followed = self._trained.joined(newcomers), names

    def check(self) -> None:
        """Arrays in memory can always answer."""

    async def close(self) -> None:
        """Lets go of it; but for memory, what hangs on it is another's."""
        if self.closed is not None:
            await self.closed()


def _topics(bundle: Bundle) -> Topics | None:
    manifest = bundle.manifest.coldstart
    if manifest is None:
        return None
    file = bundle.path / manifest.topics
    with np.load(file, allow_pickle=False) as arrays:
        weights, bias = arrays["W"].astype(np.float32), arrays["b"].astype(np.float32)
    expected = (len(manifest.labels), bundle.manifest.encoder.dim)
    if weights.shape != expected or bias.shape != expected[:1]:
        raise ValueError(f"{file}: W {weights.shape} and b {bias.shape} do not fit {expected} of the manifest")
    return Topics(manifest.space_version, manifest.labels, weights, bias)


def _blended(bundle: Bundle) -> Blended | None:
    manifest = bundle.manifest.coldstart
    if manifest is None or manifest.blend is None:
        return None
    file = bundle.path / manifest.blend
    read = Blended.read(file)
    if len(read.mean) != bundle.manifest.encoder.dim:
        raise ValueError(
            f"{file}: mean {read.mean.shape} does not fit the {bundle.manifest.encoder.dim} of the manifest"
        )
    return read


def _behaviour(bundle: Bundle) -> Behaviour | None:
    manifest = bundle.manifest.ranker
    if manifest is None:
        return None
    file = bundle.path / manifest.items
    with np.load(file, allow_pickle=False) as arrays:
        ids, vectors = arrays["ids"], arrays["vectors"].astype(np.float32)
    if vectors.shape != (len(ids), manifest.dim):
        raise ValueError(f"{file}: vectors {vectors.shape} do not fit {len(ids)} ids of {manifest.dim} numbers")
    expected = (bundle.manifest.encoder.dim, manifest.dim)
    weights, bias = np.zeros(expected, np.float32), np.zeros(expected[1:], np.float32)
    if manifest.projection is not None:
        file = bundle.path / manifest.projection
        with np.load(file, allow_pickle=False) as arrays:
            weights, bias = arrays["W"].astype(np.float32), arrays["b"].astype(np.float32)
        if weights.shape != expected or bias.shape != expected[1:]:
            raise ValueError(f"{file}: W {weights.shape} and b {bias.shape} do not fit {expected} of the manifest")
    rows = {str(item_id): row for row, item_id in enumerate(ids.tolist())}
    return Behaviour(manifest.space_version, rows, vectors, weights, bias)
