"""What tuning may try: drawn by seed, the defaults first."""

from services.domain.search import FUSIONS, Bm25f, SearchManifest
from training.tune.trials import Trial, draw_bm25f, draw_trials


def test_the_defaults_come_first() -> None:
    defaults = SearchManifest()
    assert draw_bm25f(3, 7)[0] == defaults.bm25f == Bm25f()
    assert draw_trials(3, 7)[0] == Trial(0, defaults.words_weight, defaults.fusion)


def test_a_seed_draws_the_same_and_another_others() -> None:
    assert draw_bm25f(20, 7) == draw_bm25f(20, 7) != draw_bm25f(20, 8)
    assert draw_trials(20, 7) == draw_trials(20, 7) != draw_trials(20, 8)
    assert draw_bm25f(5, 7) == draw_bm25f(20, 7)[:5]


def test_trials_are_different_and_use_what_is_there() -> None:
    assert len(set(draw_bm25f(50, 7))) == 50
    trials = draw_trials(100, 7)
    assert len(set(trials)) > 90
    assert {trial.fusion for trial in trials} == set(FUSIONS)
    assert all(0 <= trial.words < 100 and 0 < trial.words_weight < 1 for trial in trials)
