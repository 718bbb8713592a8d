"""Classes as a masked language model fills a prompt's gap: whose words it expects there (Schick and Schütze 2021)."""

from collections.abc import Sequence

import numpy as np
import torch
from tokenizers import Tokenizer

from training.encoder.model import Model, by_length, token_states
from training.encoder.words import Words
from training.labels.task import MASK, TEXT, Floats, Task, TaskError
from training.labels.voters import calibrated


def verbalisers(task: Task, tokenizer: Tokenizer) -> list[list[int]]:
    """Of each class the tokens that speak for it: its verbalisers, else those of its seed words that are one token.

    Raises TaskError (class, word) where a verbaliser is not one token of the vocabulary, or a class has none.
    """
    found = []
    for one in task.classes:
        asked = {word: _token(tokenizer, word) for word in one.verbalisers or one.words}
        if one.verbalisers and (strange := [word for word, token in asked.items() if token is None]):
            raise TaskError(f"classes, {one.name}, verbalisers: {strange[0]!r} is not one token of the model's words")
        tokens = [token for token in asked.values() if token is not None]
        if not tokens:
            raise TaskError(
                f"classes, {one.name}, verbalisers: are missing, and none of its seed words is one token of the "
                "model's words"
            )
        found.append(tokens)
    return found


def _token(tokenizer: Tokenizer, word: str) -> int | None:
    ids: list[int] = tokenizer.encode(word, add_special_tokens=False).ids
    return ids[0] if len(ids) == 1 and ids[0] != tokenizer.token_to_id("[UNK]") else None


def prompted(model: Model, words: Words, task: Task, texts: Sequence[str]) -> Floats:
    """Probabilities (texts, classes), by the words that the model expects in the gap of the task's prompt.

    A class's score is the mean of the logarithms of its verbalisers' probabilities; see voters.calibrated. Texts are
    cut at their end so that the prompt fits. Raises TaskError as `verbalisers` does, and where no text fits.
    """
    asked = verbalisers(task, model.tokenizer)
    read, gaps = _filled(model, task.prompt, texts)
    scores = np.zeros((len(texts), len(asked)))
    embeddings = model.module.model.get_input_embeddings().weight
    training = model.module.training
    model.module.eval()
    with torch.inference_mode():
        for rows in by_length(read):
            states, _ = token_states(model, [read[row] for row in rows])
            at_gap = states[torch.arange(len(rows)), torch.tensor([gaps[row] for row in rows])]
            logs = words(at_gap, embeddings).float().log_softmax(dim=1).cpu().numpy()
            scores[rows] = np.stack([logs[:, tokens].mean(axis=1) for tokens in asked], axis=1)
    model.module.train(training)
    return calibrated(scores, task.shares)


def _filled(model: Model, prompt: str, texts: Sequence[str]) -> tuple[list[list[int]], list[int]]:
    """The prompt with each text as token ids, and the place of its gap."""
    cls, sep, mask = (model.tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]", MASK))
    # A text may hold "[MASK]" itself, so the gap is put in by hand.
    first = prompt.index(TEXT) < prompt.index(MASK)
    marks = (TEXT, MASK) if first else (MASK, TEXT)
    before, rest = prompt.split(marks[0])
    between, after = rest.split(marks[1])
    parts = model.tokenizer.encode_batch_fast([before, between, after, *texts], add_special_tokens=False)
    head, middle, tail, *bodies = (one.ids for one in parts)
    room = model.max_tokens - 3 - len(head) - len(middle) - len(tail)
    if room < 1:
        raise TaskError(f"prompt: leaves no room for a text in the {model.max_tokens} tokens that the model reads")
    read, gaps = [], []
    for body in bodies:
        one, other = (body[:room], [mask]) if first else ([mask], body[:room])
        read.append([cls, *head, *one, *middle, *other, *tail, sep])
        gaps.append(1 + len(head) + (len(one) + len(middle) if first else 0))
    return read, gaps
