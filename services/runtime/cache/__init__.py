"""Vectors kept near: a memory slab, then Redis, then the source. Start with `VectorCache` in levels.py."""

from services.runtime.cache.levels import Answer, Load, VectorCache
from services.runtime.cache.redis_level import RedisLevel
from services.runtime.cache.slab import Key, Slab

__all__ = ["Answer", "Key", "Load", "RedisLevel", "Slab", "VectorCache"]
