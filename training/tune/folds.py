"""Which queries are held out together. Queries are named by hashes, so that folds can be published without them."""

import hashlib

FOLDS = 5


def query_key(query: str) -> str:
    """What stands for a query: 16 hexadecimal digits of the SHA-256 of its lower-case words."""
    return hashlib.sha256(" ".join(query.casefold().split()).encode()).hexdigest()[:16]


def fold_of(query: str) -> int:
    """The fold of a query, 0 to FOLDS - 1: by its hash alone, so that further queries move none from its fold."""
    return int(query_key(query), 16) % FOLDS
