"""A ranker whose heads are private, to be served: as training.privacy.ranking measures it."""

import secrets
from collections.abc import Callable
from pathlib import Path

import numpy as np

from training.privacy.head import CLIP
from training.privacy.ranking import MOMENTS, PAID, learn_legs, learn_private, make_candidates
from training.ranker.card import Promise
from training.ranker.config import ConfigError, RankerConfig
from training.ranker.heads import Heads
from training.ranker.pipeline import Fitted, Shop, judge
from training.ranker.train import Epoch

_COVERS = (
    f"Covered are the shoppers who taught the heads: 30 of 100, by a hash of the seed and the id, with their latest "
    f"{MOMENTS} sessions each. Had one of them done nothing, any heads would be as probable but for a factor of e to "
    "the epsilon and for delta; all rates tried are paid for. Nothing else in this ranker depends on what they did."
)
_LEAVES_OUT = (
    "Not covered: those of whom the Transformer, the vectors and the features were learned (40 of 100), by whom the "
    "epoch and the rate were chosen (10), and who were measured on (20); what a running shop derives of its log "
    "(popularity, what is met together, profiles) and what `train coldstart` learns; how many taught, as delta says. "
    "Every further training on the same shoppers spends an epsilon of its own."
)
_SEED_GIVEN = "Whoever knows the seed, which was given, can take the noise away: leave --seed out for what is served."
_SEED_DRAWN = "The noise was drawn anew and its seed is kept nowhere."
_SEED_BITS = 60
# What has no meaning where the heads are private, and why.
_NO_MEANING = {
    "minutes": "the seed is to repeat the heads, so no clock ends the training; epochs and examples_an_epoch bound it",
    "held_out": "who is learned from and who is measured on are other shoppers, not other days",
    "objective": "private heads learn what was wanted of what retrieval brings, not what was clicked in answers",
}


def fit_private_ranker(
    shop: Shop,
    config: RankerConfig,
    epsilon: float,
    noise_seed: int | None,
    checkpoints: Path,
    told: Callable[[str], None],
    epoch_told: Callable[[Epoch], None],
) -> tuple[Fitted, Promise]:
    """A ranker with heads learned by DP-SGD and what that promises.

    The same noise_seed gives the same heads; without one the noise cannot be repeated, and all else can. The heads do
    not say how unsure they are: the curvature of their loss would count what shoppers met, without noise. Raises
    ValueError where a part has nobody or no noise reaches epsilon, ConfigError for a setting that has no meaning here.
    """
    refuse_meaningless(config, epsilon)
    told("Transformer")
    trained = learn_legs(shop, config, checkpoints, epoch_told)
    told("what retrieval brings")
    data = make_candidates(shop, trained, config.seed, lambda made: None)
    told("private heads")
    drawn = secrets.randbits(_SEED_BITS) if noise_seed is None else noise_seed
    private = learn_private(data, epsilon, drawn, lambda done, total: None)
    heads = Heads(private.head.weights.T.copy(), private.head.bias)
    metrics = {
        "ranker.heads_from_answers": 0.0,
        "ranker.items_read": float(shop.content.any(axis=1).mean()),
        "ranker.affinity_ndcg_at_10": trained.ndcg,
        "ranker.epsilon": private.epsilon,
        "ranker.delta": private.delta,
        **judge(heads, data.test.rows),
    }
    promise = Promise(
        private.epsilon,
        private.delta,
        private.noise,
        CLIP,
        PAID.steps,
        PAID.share,
        len(data.train),
        _COVERS,
        f"{_LEAVES_OUT} {_SEED_DRAWN if noise_seed is None else _SEED_GIVEN}",
    )
    return Fitted(trained, heads, metrics), promise


def refuse_meaningless(config: RankerConfig, epsilon: float) -> None:
    """Raises ConfigError for an epsilon out of range, and for a setting that was given and has no meaning beside it."""
    if not np.isfinite(epsilon) or not 0 < epsilon <= 100:
        raise ConfigError(f"--epsilon: must be above 0 and at most 100, not {epsilon:g}")
    for name, why in _NO_MEANING.items():
        if getattr(config, name) != getattr(RankerConfig(), name):
            raise ConfigError(f"{name}: goes without --epsilon: {why}")
