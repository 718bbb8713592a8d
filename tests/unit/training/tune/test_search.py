"""The choice: on other folds, by both rules, out-of-fold scores of queries that had no part in it."""

import numpy as np

from training.tune.folds import FOLDS
from training.tune.search import choose

FOLD = np.arange(50) % FOLDS


def test_the_best_trial_is_chosen_where_it_is_best_everywhere() -> None:
    reached = np.zeros((3, 50, 2))
    reached[1] = 0.7
    chosen = choose(reached, FOLD)
    assert (chosen.by_fold, chosen.best) == ([1] * FOLDS, 1)
    assert (chosen.reached == 0.7).all()
    assert (chosen.defaults == 0).all()


def test_both_rules_count_alike() -> None:
    reached = np.zeros((2, 50, 2))
    reached[0, :, 0], reached[1, :, 0], reached[1, :, 1] = 0.6, 0.4, 0.4
    assert choose(reached, FOLD).best == 1


def test_a_query_has_no_part_in_the_choice_for_it() -> None:
    # Each trial is right about one fold alone: on the others it is as bad as any.
    reached = np.zeros((FOLDS, 50, 2))
    for fold in range(FOLDS):
        reached[fold, fold == FOLD] = 1.0
    chosen = choose(reached, FOLD)
    assert all(trial != fold for fold, trial in enumerate(chosen.by_fold))
    assert (chosen.reached == 0).all()


def test_what_only_noise_chose_gains_nothing() -> None:
    noise = np.random.default_rng(0).random((200, 500, 2))
    folds = np.arange(500) % FOLDS
    chosen = choose(noise, folds)
    assert abs(chosen.reached.mean() - 0.5) < 0.03


def test_the_defaults_stay_until_they_are_clearly_beaten() -> None:
    rng = np.random.default_rng(1)
    reached = rng.random((1, 100, 2)) * np.ones((3, 1, 1))
    folds = np.arange(100) % FOLDS
    # Better on some queries by chance, and worse on nearly as many.
    reached[1] += rng.normal(0.002, 0.1, (100, 1))
    assert choose(reached, folds).by_fold == [0] * FOLDS
    reached[2] += 0.01
    assert choose(reached[[0, 2]], folds).by_fold == [1] * FOLDS
