"""Classes by what a causal language model goes on with after a prompt; one that is made here."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn import functional as F  # noqa: N812
from transformers import GPT2Config, GPT2LMHeadModel
from typer.testing import CliRunner

from tests.unit.training.encoder import tiny
from tests.unit.training.labels.reviews import TASK, kinds, write_reviews
from training.cli import app
from training.labels.generator import Generator, generated, load_generator
from training.labels.task import Task, TaskError, read_task
from training.labels.voters import calibrated


def tokenizer() -> Tokenizer:
    """Words whole; "toast er" and "toast rack" begin alike."""
    words = ["[UNK]", *tiny.KINDS, *tiny.COLOURS, *tiny.SAID, *tiny.BRANDS, "good", "the", "toast", "er", "rack"]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 of one layer that has read reviews that end with what they are of."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    words = tokenizer()
    config = GPT2Config(
        vocab_size=words.get_vocab_size(), n_positions=24, n_embd=32, n_layer=1, n_head=2, bos_token_id=0,
        eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    texts, labels = kinds(400)
    said = [f"{text} the {tiny.KINDS[label]}" for text, label in zip(texts, labels, strict=True)]
    read = torch.tensor([one.ids for one in words.encode_batch(said)])
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(60):
        rows = read[torch.arange(step * 64, step * 64 + 64) % len(read)]
        loss = F.cross_entropy(model(rows).logits[:, :-1].transpose(1, 2), rows[:, 1:])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    out = tmp_path_factory.mktemp("generator") / "gpt"
    model.eval().save_pretrained(out)
    words.save(str(out / "tokenizer.json"))
    return out


@pytest.fixture
def task(tmp_path: Path) -> Task:
    (tmp_path / "kinds.toml").write_text(TASK)
    return read_task(str(tmp_path / "kinds.toml"))


def test_what_it_would_go_on_with_tells_the_class(directory: Path, task: Task) -> None:
    generator = load_generator(directory)
    assert generator.max_tokens == 24
    texts, labels = kinds(200, seed=1)
    assert (generated(generator, task, texts).argmax(axis=1) == labels).mean() > 0.9
    # A text longer than the model reads is cut, not the prompt after it.
    long = [text + " good" * 40 for text in texts]
    assert generated(generator, task, long).shape == (200, 2)


def test_a_word_of_several_tokens_counts_by_all_of_them(directory: Path, task: Task) -> None:
    generator = load_generator(directory)
    first, second = task.classes
    asked = (replace(first, verbalisers=("toast er", "toast")), replace(second, verbalisers=("toast rack good",)))
    texts = kinds(20, seed=2)[0]
    found = generated(generator, replace(task, classes=asked), texts)
    scores = np.zeros((len(texts), 2))
    for row, text in enumerate(texts):
        for place, one in enumerate(asked):
            scores[row, place] = np.mean([_likelihood(generator, f"{text} the", word) for word in one.verbalisers])
    assert found == pytest.approx(calibrated(scores, None), abs=1e-4)


def _likelihood(generator: Generator, before: str, word: str) -> float:
    begun, ending = (generator.tokenizer.encode(one).ids for one in (before, word))
    with torch.inference_mode():
        logs = generator.model(torch.tensor([begun + ending])).logits[0].log_softmax(dim=1)
    return sum(float(logs[len(begun) + i - 1, token]) for i, token in enumerate(ending))


def test_a_prompt_that_it_cannot_read_is_refused(directory: Path, task: Task) -> None:
    generator = load_generator(directory)
    for prompt in ("", "[MASK] : {text}"):
        with pytest.raises(TaskError, match=r"prompt: must have \[MASK\] after \{text\} for --generator"):
            generated(generator, replace(task, prompt=prompt), ["red boiler"])
    with pytest.raises(TaskError, match="prompt: leaves no room for a text in the 24 tokens"):
        generated(generator, replace(task, prompt="{text} " + "good " * 30 + "[MASK]"), ["red boiler"])


def test_a_directory_that_is_no_language_model_is_refused(tmp_path: Path, directory: Path) -> None:
    with pytest.raises(TaskError, match=r"--generator: .*config.json: missing"):
        load_generator(tmp_path)
    with pytest.raises(
        TaskError, match=r"--generator: .*bert: its architecture is BertModel, no causal language model"
    ):
        load_generator(tiny.write_model(tmp_path / "bert"))
    (tmp_path / "unread").mkdir()
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / "unread" / name).write_bytes((directory / name).read_bytes())
    # Weights in a file that can run code when it is read are none.
    torch.save({}, tmp_path / "unread" / "pytorch_model.bin")
    with pytest.raises(TaskError, match=r"--generator: .*unread: .*safetensors"):
        load_generator(tmp_path / "unread")
    own = json.loads((directory / "config.json").read_text()) | {"auto_map": {"AutoConfig": "own.Config"}}
    own["model_type"] = "own"
    (tmp_path / "unread" / "config.json").write_text(json.dumps(own))
    with pytest.raises(TaskError, match="--generator: "):
        load_generator(tmp_path / "unread")


def test_the_command_asks_a_generator_beside_the_words(tmp_path: Path, directory: Path) -> None:
    (tmp_path / "kinds.toml").write_text(TASK)
    data, out = write_reviews(tmp_path / "reviews.csv", 160), tmp_path / "out"
    command = ["synthesize", "--data", str(data), "--task", str(tmp_path / "kinds.toml"), "--seeds", "1"]
    done = CliRunner().invoke(app, [*command, "--generator", str(directory), "--json", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["generated"]["accuracy"] > 0.9
    assert "generated toaster" in (out / "labels.csv").read_text()
    refused = CliRunner().invoke(app, [*command, "--generator", str(tmp_path)])
    assert refused.exit_code == 1
    assert "config.json: missing" in refused.output
