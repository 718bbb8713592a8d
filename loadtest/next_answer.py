"""How long until an event shows: a fresh shopper's first event is written, then HOME is asked, one shopper at a time.

    python -m loadtest.next_answer --shoppers 300        # against a running stack, `python -m services`

Both answers of a shopper, before and after the event, are asked for; the second must be of a shopper of whom something
is known and must be another one, else it ends with an error.
"""

import argparse
import random
import time
import uuid

import numpy as np
from rich.console import Console
from rich.table import Table

from souk import SyncClient
from souk.types.v1 import types_pb2

_PARTS = ("write the event", "next answer", "both")
# What a shopper did may leave all places as they are once in a while.
_CHANGED = 0.95


def main() -> None:
    """Measures a running stack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", default="127.0.0.1:7100", help="host:port of the gateway")
    parser.add_argument("--shoppers", type=int, default=300, help="how many, after 20 that are not counted")
    parser.add_argument("--seed", type=int, default=7, help="of the items that are viewed")
    given = parser.parse_args()
    if given.shoppers < 1:
        parser.error("--shoppers: must be 1 or more")
    with SyncClient(given.gateway, timeout=10) as shop:
        seconds, changed = measure(shop, given.shoppers, given.seed)
    table = Table("ms", "p50", "p95", "p99", "most", box=None)
    for name, column in zip(_PARTS, 1e3 * seconds.T, strict=True):
        table.add_row(name, *(f"{value:.1f}" for value in (*np.percentile(column, (50, 95, 99)), column.max())))
    console = Console()
    console.print(table)
    console.print(f"{changed:.1%} of {given.shoppers} answers were another one than before the event", highlight=False)
    if changed < _CHANGED:
        raise SystemExit(f"only {changed:.1%} of the answers changed; at least {_CHANGED:.0%} must")
    console.print("next: the same while others ask, or with another bundle", highlight=False)


def measure(
    shop: SyncClient, shoppers: int, seed: int
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float64]], float]:
    """Seconds of each of _PARTS, (shoppers, 3), and the share of answers that changed."""
    rng = random.Random(seed)
    popular = [hit.item_id for hit in shop.recommend(types_pb2.SCENE_HOME, page_size=100).hits]
    found, changed = [], 0
    for number in range(-20, shoppers):
        shopper = uuid.uuid4().hex
        before = shop.recommend(types_pb2.SCENE_HOME, shopper_id=shopper, page_size=10)
        event = types_pb2.Event(
            event_id=uuid.uuid4().hex,
            shopper_id=shopper,
            type=types_pb2.EVENT_TYPE_VIEW,
            item_id=rng.choice(popular),
        )
        began = time.perf_counter()
        shop.record_events([event])
        written = time.perf_counter()
        after = shop.recommend(types_pb2.SCENE_HOME, shopper_id=shopper, page_size=10)
        ended = time.perf_counter()
        if after.stage == types_pb2.STAGE_COLD or after.info.degradations:
            raise SystemExit(f"shopper {number}: stage {after.stage}, degradations {list(after.info.degradations)}")
        if number >= 0:
            found.append((written - began, ended - written, ended - began))
            changed += [hit.item_id for hit in before.hits] != [hit.item_id for hit in after.hits]
    return np.array(found), changed / shoppers


if __name__ == "__main__":
    main()
