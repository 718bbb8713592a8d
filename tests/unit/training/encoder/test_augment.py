"""Queries are changed as little as people change them."""

import numpy as np

from training.encoder.augment import in_another_order, in_another_word, with_typo


def test_a_typo_is_one_slip_in_a_long_word() -> None:
    made = {with_typo("red kettle wh1000", np.random.default_rng(seed)) for seed in range(200)}
    assert len(made) > 10
    for query in made:
        red, word, model = query.split(" ")
        assert (red, model) == ("red", "wh1000")
        assert abs(len(word) - 6) <= 1
        assert word.startswith("k")
    assert with_typo("tv 55 wh1000", np.random.default_rng(0)) == "tv 55 wh1000"
    assert with_typo("无线蓝牙耳机", np.random.default_rng(0)) == "无线蓝牙耳机"


def test_words_change_places_with_their_neighbours() -> None:
    made = {in_another_order("a b c", np.random.default_rng(seed)) for seed in range(50)}
    assert made == {"b a c", "a c b"}
    assert in_another_order("a", np.random.default_rng(0)) == "a"


def test_a_word_is_replaced_by_its_synonym() -> None:
    synonyms = {"sofa": ["couch", "settee"]}
    made = {in_another_word("red Sofa", synonyms, np.random.default_rng(seed)) for seed in range(50)}
    assert made == {"red couch", "red settee"}
    assert in_another_word("red mug", synonyms, np.random.default_rng(0)) == "red mug"
