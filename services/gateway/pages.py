"""Pages of one ranked list: the list is kept in Redis, its token is signed and remembers what was shown."""

import asyncio
import hashlib
import hmac
import json
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field

from redis import asyncio as redis
from redis.exceptions import RedisError

from services.domain.checks import Invalid
from services.runtime import telemetry

# Redis answers within a millisecond or is not worth waiting for.
_REDIS_SECONDS = 0.1
_SIGNATURE_BYTES = 16
_HEAD = struct.Struct("<HI")


@dataclass(frozen=True)
class Kept:
    """A list as it is kept: the policy that ordered it, and (item id, score) in order."""

    policy: str
    ranked: list[tuple[str, float]]
    stood_in: bool = False
    """It is made of what stands in where nothing of the scene's own passes."""
    propensities: dict[str, float] = field(default_factory=dict)
    """Of items that exploration put where they are: a later page may be the one that shows them."""


@dataclass(frozen=True)
class PageToken:
    """How far the pages of a list have come: `offset` items, known by their hashes."""

    request_id: str
    fingerprint: bytes
    offset: int
    shown: frozenset[int]

    def has_shown(self, item_id: str) -> bool:
        """Whether an earlier page held the item."""
        return bool(self.shown) and _short_hash(item_id) in self.shown


def fingerprint(*parts: bytes) -> bytes:
    """What makes two requests the same list: 8 bytes."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(4, "little") + part)
    return digest.digest()[:8]


def _short_hash(item_id: str) -> int:
    return int.from_bytes(hashlib.sha256(item_id.encode()).digest()[:6], "little")


class Pages:
    """Issues and reads page tokens, keeps and finds lists. Without Redis, or when it fails, lists are not kept."""

    def __init__(self, key: str, redis_url: str | None, ttl_seconds: int) -> None:
        self._key = key.encode()
        self._ttl = ttl_seconds
        self._redis = (
            redis.Redis.from_url(redis_url, socket_timeout=_REDIS_SECONDS, socket_connect_timeout=_REDIS_SECONDS)
            if redis_url
            else None
        )

    async def close(self) -> None:
        """Closes the connections."""
        if self._redis is not None:
            await self._redis.aclose()

    def issue(self, before: PageToken, page: list[str]) -> str:
        """A token for the page that follows `page`; `before` says how far the pages had come without it."""
        hashes = b"".join(h.to_bytes(6, "little") for h in sorted(before.shown | {_short_hash(item) for item in page}))
        name = before.request_id.encode()
        body = _HEAD.pack(len(name), before.offset + len(page)) + name + before.fingerprint + hashes
        return urlsafe_b64encode(self._sign(body) + body).decode().rstrip("=")

    def read(self, token: str, fingerprint: bytes) -> PageToken:
        """Reads a token. Raises Invalid when it was not issued here or belongs to another request."""
        try:
            raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except ValueError:
            raise Invalid("page_token", "is not a page token") from None
        signature, body = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
        if len(body) < _HEAD.size or not hmac.compare_digest(signature, self._sign(body)):
            raise Invalid("page_token", "was not issued by this shop; start from the first page")
        length, offset = _HEAD.unpack_from(body)
        name = body[_HEAD.size : _HEAD.size + length]
        rest = body[_HEAD.size + length :]
        if rest[:8] != fingerprint:
            raise Invalid("page_token", "belongs to another request; everything but the token must stay as it was")
        hashes = rest[8:]
        shown = frozenset(int.from_bytes(hashes[i : i + 6], "little") for i in range(0, len(hashes), 6))
        return PageToken(name.decode(), fingerprint, offset, shown)

    async def keep(self, request_id: str, fingerprint: bytes, kept: Kept) -> None:
        """Keeps a list for its next pages; a failure is logged and shows as an expired list later."""
        if self._redis is None:
            return
        try:
            async with asyncio.timeout(_REDIS_SECONDS):
                await self._redis.set(_name(request_id, fingerprint), _packed(kept), ex=self._ttl)
        except (RedisError, OSError, TimeoutError) as error:
            telemetry.log.warning("list not kept", error=type(error).__name__)

    async def find(self, token: PageToken) -> Kept | None:
        """The list that a token belongs to; None when it is gone or Redis does not answer."""
        if self._redis is None:
            return None
        try:
            async with asyncio.timeout(_REDIS_SECONDS):
                value: bytes | None = await self._redis.get(_name(token.request_id, token.fingerprint))  # type: ignore[assignment]
        except (RedisError, OSError, TimeoutError) as error:
            telemetry.log.warning("list not found", error=type(error).__name__)
            return None
        if value is None:
            return None
        return _unpacked(value)

    def _sign(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")[:_SIGNATURE_BYTES]


def _packed(kept: Kept) -> bytes:
    """A line of JSON, then the scores as float64: written out as digits these cost most of an answer's kept list."""
    ids = [item_id for item_id, _ in kept.ranked]
    head = json.dumps([kept.policy, kept.stood_in, ids, kept.propensities])
    return head.encode() + b"\n" + struct.pack(f"<{len(ids)}d", *(score for _, score in kept.ranked))


def _unpacked(value: bytes) -> Kept:
    head, _, scores = value.partition(b"\n")
    policy, stood_in, ids, propensities = json.loads(head)
    return Kept(policy, list(zip(ids, struct.unpack(f"<{len(ids)}d", scores), strict=True)), stood_in, propensities)


def _name(request_id: str, fingerprint: bytes) -> str:
    # Request ids come from callers, who may use one twice: the fingerprint keeps their lists apart.
    return f"souk:list:3:{request_id}:{fingerprint.hex()}"
