"""How far each labelling function can be believed, told from where they agree, without any label."""

from dataclasses import dataclass

import numpy as np

from training.labels.functions import Votes
from training.labels.task import Floats

# A function is believed this much before anything is seen, as if so many texts had shown it.
BELIEVED, AS_IF = 0.8, 20.0
_LEAST, _MOST = 0.5, 0.98
_ROUNDS = 50


@dataclass(frozen=True, slots=True)
class LabelModel:
    """`accuracy` (functions,): how often each is right where it fires; `prior` (classes,): of a text before its words
    are read."""

    accuracy: Floats
    prior: Floats

    def soft(self, votes: Votes) -> Floats:
        """Probabilities (texts, classes); the prior where no function fired."""
        classes = len(self.prior)
        other = np.log((1 - self.accuracy) / (classes - 1))
        weights = np.repeat(other[:, None], classes, axis=1)
        weights[np.arange(len(other)), votes.says] = np.log(self.accuracy)
        scores = votes.fired @ (weights - other[:, None]) + np.log(self.prior)
        return softmax(scores)


def fit_label_model(votes: Votes, classes: int, shares: Floats | None) -> LabelModel:
    """Dawid and Skene (1979) by EM, with one accuracy a function and its silence saying nothing, as in data programming
    (Ratner et al. 2016).

    With every function silent as it likes, the classes' shares cannot be told from the votes: they are matched to
    `shares` (classes,) in every round, and count as equal before the votes where nothing is believed of them.
    What models say is believed as far as it agrees with the seed words where these speak: models that err alike would
    else outvote them, and where no seed word speaks they would be judged by themselves.
    """
    words = votes.words()
    model = _fit_words(words, classes, shares)
    if not votes.models:
        return model
    heard = np.flatnonzero(np.asarray(words.fired.sum(axis=1)).ravel())
    said, says = votes.fired[heard][:, len(words.says) :], votes.says[len(words.says) :]
    right = np.asarray(said.T @ model.soft(words.take(heard)))[np.arange(votes.models), says]
    found = (right + AS_IF * BELIEVED) / (np.asarray(said.sum(axis=0)).ravel() + AS_IF)
    return LabelModel(np.concatenate([model.accuracy, np.clip(found, 1 / classes, _MOST)]), model.prior)


def _fit_words(votes: Votes, classes: int, shares: Floats | None) -> LabelModel:
    model = LabelModel(np.full(len(votes.says), BELIEVED), np.full(classes, 1 / classes))
    fires = np.asarray(votes.fired.sum(axis=0)).ravel()
    heard = votes.take(np.flatnonzero(np.asarray(votes.fired.sum(axis=1)).ravel()))
    for _ in range(_ROUNDS):
        if shares is not None:
            prior = softmax(np.log(model.prior) + offset(np.log(model.soft(heard)), shares))
            model = LabelModel(model.accuracy, prior)
        right = np.asarray(heard.fired.T @ model.soft(heard))[np.arange(len(votes.says)), votes.says]
        found = np.clip((right + AS_IF * BELIEVED) / (fires + AS_IF), _LEAST, _MOST)
        done = np.abs(found - model.accuracy).max() < 1e-4
        model = LabelModel(found, model.prior)
        if done:
            break
    return model


def offset(scores: Floats, shares: Floats) -> Floats:
    """What to add to the scores (texts, classes) so that their mean probabilities are the shares: (classes,)."""
    added = np.zeros(len(shares))
    for _ in range(100):
        step = np.log(shares / np.maximum(softmax(scores + added).mean(axis=0), 1e-9))
        added += step - step.mean()
        if np.abs(step).max() < 1e-4:
            break
    return added


def softmax(scores: Floats) -> Floats:
    """Over the last axis."""
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), np.float64)
