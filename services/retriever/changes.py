"""What the catalogue has committed, as the derived indexes take it in."""

from dataclasses import dataclass

from souk.types.v1 import types_pb2
from souk.vectors import Float32


@dataclass(frozen=True)
class AppliedChange:
    """One committed change: an item written (`item`), an item taken out (`removed`), or a vector made (`space`).

    `item` is complete and checked (revision and created_at set). `vector` is float32 of shape (dim,), finite and not
    all zero; None, with `covered` False, where the encoder cannot read the item's text.
    """

    sequence: int
    item_id: str
    revision: int
    item: types_pb2.Item | None = None
    removed: bool = False
    space: types_pb2.Space.ValueType = types_pb2.SPACE_UNSPECIFIED
    space_version: str = ""
    vector: Float32 | None = None
    covered: bool = True
