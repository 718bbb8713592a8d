"""Classes by a language model that writes from left to right: whose words it would go on with after the prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from training.encoder.model import by_length, padded
from training.labels.task import MASK, TEXT, Floats, Task, TaskError
from training.labels.voters import calibrated

# Of a prompt with its text, where the model itself reads more; of one forward pass, whose logits are of all words.
_MAX_TOKENS, _AT_ONCE = 512, 1024


@dataclass(frozen=True)
class Generator:
    """A causal language model and its tokenizer; `max_tokens` is what is read of a prompt at most."""

    model: PreTrainedModel
    tokenizer: Tokenizer
    max_tokens: int


def load_generator(directory: Path) -> Generator:
    """The model in a Hugging Face directory, on the CPU; nothing is downloaded and no code of the directory is run.

    Raises TaskError where it is none, with what is missing.
    """
    for name in ("config.json", "tokenizer.json"):
        if not (directory / name).is_file():
            raise TaskError(f"--generator: {directory / name}: missing; the directory of a language model holds it")
    try:
        config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        kinds = config.architectures or []
        if not set(kinds) & set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()):
            raise TaskError(f"its architecture is {', '.join(kinds) or 'not named'}, no causal language model")
        # Weights as safetensors only: other files can run code when they are read.
        model = AutoModelForCausalLM.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError) as error:
        raise TaskError(f"--generator: {directory}: {error}") from None
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return Generator(model.eval(), tokenizer, min(_MAX_TOKENS, getattr(config, "max_position_embeddings", _MAX_TOKENS)))


def generated(generator: Generator, task: Task, texts: Sequence[str]) -> Floats:
    """Probabilities (texts, classes), by the likelihood of each class's words where the task's prompt has its gap.

    A class's score is the mean of the logarithms of the likelihoods of its verbalisers, else of its seed words, of one
    token or more; see voters.calibrated. Texts are cut at their end so that the prompt fits. Raises TaskError for a
    prompt that is missing, has its gap before the text or leaves no room.
    """
    if TEXT not in (before_gap := task.prompt.split(MASK)[0]):
        raise TaskError(f"prompt: must have {MASK} after {TEXT} for --generator, not {task.prompt!r}")
    before, between = before_gap.split(TEXT)
    flat = [
        (place, tuple(_ids(generator, between + word)))
        for place, one in enumerate(task.classes)
        for word in one.verbalisers or one.words
    ]
    endings = [ending for _, ending in flat]
    # What all begin with tells nothing; of the rest each token is asked for after those before it.
    alike = takewhile(lambda column: len(set(column)) == 1, zip(*(one[:-1] for one in endings), strict=False))
    same = len(list(alike))
    asked = sorted({ending[:end] for ending in endings for end in range(same, len(ending))})
    onward = [
        [(i, one[len(begun)]) for i, one in enumerate(endings) if len(one) > len(begun) and one[: len(begun)] == begun]
        for begun in asked
    ]
    head = generator.tokenizer.encode(before).ids
    room = generator.max_tokens - len(head) - max(map(len, endings))
    if room < 1:
        raise TaskError(f"prompt: leaves no room for a text in the {generator.max_tokens} tokens that are read")
    bodies = [head + _ids(generator, text)[:room] for text in texts]
    read = [[*body, *begun] for body in bodies for begun in asked]
    said = np.zeros((len(texts), len(endings)))
    with torch.inference_mode():
        for rows in by_length(read, _AT_ONCE):
            ids, mask = padded([read[row] for row in rows], generator.model.device)
            logits = generator.model(input_ids=ids, attention_mask=mask).logits
            last = logits[torch.arange(len(rows)), mask.sum(dim=1) - 1].float().log_softmax(dim=1).cpu().numpy()
            for row, logs in zip(rows, last, strict=True):
                text, begun = divmod(row, len(asked))
                places, tokens = zip(*onward[begun], strict=True)
                said[text, list(places)] += logs[list(tokens)]
    classes = np.array([place for place, _ in flat])
    scores = np.stack([said[:, classes == place].mean(axis=1) for place in range(len(task.classes))], axis=1)
    return calibrated(scores, task.shares)


def _ids(generator: Generator, text: str) -> list[int]:
    ids: list[int] = generator.tokenizer.encode(text, add_special_tokens=False).ids
    return ids
