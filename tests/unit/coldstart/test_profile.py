"""Interests follow what a shopper did; without it, what they match is chance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.coldstart import profile
from tests.unit.coldstart.making import CLICK, DAY, PURCHASE, SKIP, TOPICS, VIEW, knowledge, towards

TOPIC_SPACE = knowledge().topics
assert TOPIC_SPACE is not None
VECTORS = {f"{TOPICS[topic]}-{n}": towards(topic, 10 * topic + n) for topic in range(3) for n in range(5)}


def test_weights_halve_with_age_counted_from_the_latest_event() -> None:
    entries = [("a", VIEW, 0), ("b", PURCHASE, 30 * DAY * 1000), ("a", CLICK, 30 * DAY * 1000)]
    assert profile.item_weights(entries, 30) == pytest.approx({"a": 1.5, "b": 3})
    later = [(item, kind, time + 10**9) for item, kind, time in entries]
    assert profile.item_weights(later, 30) == pytest.approx({"a": 1.5, "b": 3})


def test_the_dense_profile_points_where_the_events_do_and_away_from_what_was_waved_away() -> None:
    weights = profile.item_weights([("shoes-0", PURCHASE, 0), ("shoes-1", VIEW, 0), ("tea-0", SKIP, 0)], 30)
    dense = profile.dense(weights, VECTORS)
    assert dense is not None
    assert np.linalg.norm(dense) == pytest.approx(1, abs=1e-6)
    assert dense @ VECTORS["shoes-3"] > 0.8
    assert dense @ VECTORS["tea-3"] < 0
    assert profile.dense({}, VECTORS) is None
    assert profile.dense({"unknown": 1.0}, VECTORS) is None
    assert profile.dense({"shoes-0": 0.0}, VECTORS) is None


@given(st.dictionaries(st.sampled_from(sorted(VECTORS)), st.floats(-3, 9), max_size=9))
def test_interests_are_shares(weights: dict[str, float]) -> None:
    assert TOPIC_SPACE is not None
    interests = profile.interests(weights, VECTORS, TOPIC_SPACE)
    if all(weight <= 0 for weight in weights.values()):
        assert interests is None
        return
    assert interests is not None
    assert interests.sum() == pytest.approx(1, abs=1e-4)
    assert (interests >= 0).all()
    shares = profile.topic_shares(interests, TOPIC_SPACE)
    assert [share.share for share in shares] == sorted((share.share for share in shares), reverse=True)
    assert profile.topic_vector(shares, 3) == pytest.approx(interests)


def test_zeroing_the_profile_makes_the_match_of_topics_fall() -> None:
    """The metric: mean cosine of shoppers' interests and the topics of what they take next."""
    assert TOPIC_SPACE is not None
    real, zeroed = [], []
    for topic, name in enumerate(TOPICS):
        weights = profile.item_weights([(f"{name}-{n}", VIEW, n) for n in range(3)], 30)
        interests = profile.interests(weights, VECTORS, TOPIC_SPACE)
        assert interests is not None
        following = TOPIC_SPACE.of(np.stack([towards(topic, 90 + topic)]))[0]
        real.append(cosine(interests, following))
        zeroed.append(cosine(np.ones_like(interests), following))
    assert np.mean(real) > 0.95
    assert np.mean(zeroed) < 0.65


def test_interests_of_another_shopper_match_less() -> None:
    assert TOPIC_SPACE is not None
    matches = np.zeros((3, 3))
    for topic, name in enumerate(TOPICS):
        interests = profile.interests({f"{name}-0": 1.0, f"{name}-1": 1.0}, VECTORS, TOPIC_SPACE)
        assert interests is not None
        for other in range(3):
            matches[topic, other] = cosine(interests, TOPIC_SPACE.of(towards(other, 77)[None])[0])
    assert matches.diagonal().min() > matches[~np.eye(3, dtype=bool)].max() + 0.5


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
