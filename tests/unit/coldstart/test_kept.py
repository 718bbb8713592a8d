"""Memory never holds more bytes than it may, and gives what was put last or nothing."""

from hypothesis import given
from hypothesis import strategies as st

from services.coldstart.kept import Kept

KEYS = st.sampled_from([b"a", b"b", b"c", b"d"])
DONE = st.lists(st.one_of(st.tuples(KEYS, st.binary(max_size=40)), st.tuples(KEYS, st.none())), max_size=60)


@given(DONE, st.integers(0, 80))
def test_what_was_put_last_or_nothing_within_the_bound(done: list[tuple[bytes, bytes | None]], most: int) -> None:
    kept, last = Kept(most, 60), dict[bytes, bytes]()
    for key, value in done:
        if value is None:
            kept.drop(key)
            last.pop(key, None)
        else:
            kept.put(key, value)
            last[key] = value
            # What fits alone is there.
            assert (kept.get(key) == value) == (len(key) + len(value) <= most)
        held = {one: found for one in b"abcd" if (found := kept.get(bytes([one]))) is not None}
        assert all(last[bytes([one])] == found for one, found in held.items())
        assert sum(1 + len(found) for found in held.values()) <= most


def test_the_one_not_used_for_longest_goes() -> None:
    kept = Kept(20, 60)
    kept.put(b"a", b"x" * 8)
    kept.put(b"b", b"x" * 8)
    assert kept.get(b"a")
    kept.put(b"c", b"x" * 8)
    assert (kept.get(b"b"), len(kept)) == (None, 2)


def test_nothing_is_used_past_its_time() -> None:
    kept = Kept(1000, -1)
    kept.put(b"a", b"x")
    assert kept.get(b"a") is None
    assert len(kept) == 0
