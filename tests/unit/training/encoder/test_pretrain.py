"""Pre-training learns a shop's text by every objective, from a tokenizer of its own, and goes on after a kill."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from tests.unit.training.encoder import tiny
from training.encoder.cli import app
from training.encoder.config import ConfigError
from training.encoder.loop import Ended, Evaluated, Loop
from training.encoder.model import encode, load
from training.encoder.pretrain import Pretrain, PretrainConfig, from_scratch, read_texts
from training.encoder.words import FILE

CONFIG = PretrainConfig(
    steps=30, batch=16, learning_rate=5e-3, evaluate_every=15, patience=0, tokens=16, held_out=0.1, hidden=64, layers=2,
    heads=2, intermediate=64, max_tokens=32,
)  # fmt: skip


def texts(count: int = 200) -> list[str]:
    """A kind is always said with what shoppers call it, so that a gap can be filled."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        kind = int(rng.integers(len(tiny.KINDS)))
        colour = tiny.COLOURS[int(rng.integers(len(tiny.COLOURS)))]
        found.append(f"the {colour} {tiny.KINDS[kind]}. good {tiny.SAID[kind]} for the kitchen. {colour} the {colour}")
    return found


def run(path: Path, config: PretrainConfig, kill_at: int = -1) -> tuple[Pretrain, Ended]:
    def told(step: int, evaluated: Evaluated | None) -> None:
        if step == kill_at and evaluated is None:
            raise KeyboardInterrupt

    task = Pretrain(from_scratch(tiny.tokenizer(), config), texts(), config)
    return task, Loop(task, config, path / "work", path / "board", told).run()


@pytest.mark.parametrize("objective", ["mlm", "mlm+nsp", "tsdae", "retromae"])
def test_it_learns_and_a_kill_changes_nothing(tmp_path: Path, objective: str) -> None:
    torch.set_num_threads(1)
    config = replace(CONFIG, objective=objective)
    task, ended = run(tmp_path / "whole", config)
    assert ended.best.metrics["accuracy"] > ended.before["accuracy"] + 0.1
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", config, kill_at=20)
    again, resumed = run(tmp_path / "broken", config)
    assert resumed.history == ended.history
    weights, same = (one.module.state_dict() for one in (task, again))
    assert all(torch.equal(weights[name], same[name]) for name in weights)


def test_what_is_asked_is_hidden() -> None:
    task = Pretrain(from_scratch(tiny.tokenizer(), CONFIG), texts(), replace(CONFIG, masked=0.5))
    mask = tiny.tokenizer().token_to_id("[MASK]")
    asked = hidden = 0
    for example in (one for seed in range(40) for one in task.draw(np.random.default_rng(seed))):
        assert len(example.read) == len(example.wanted) <= 16
        for read, wanted, whole in zip(example.read, example.wanted, example.whole, strict=True):
            assert wanted in (-100, whole)
            assert wanted != -100 or read == whole
            asked += wanted != -100
            hidden += wanted != -100 and read == mask
    assert hidden / asked == pytest.approx(0.8, abs=0.03)


def test_next_sentences_are_half_of_them_of_another_text() -> None:
    config = replace(CONFIG, objective="mlm+nsp")
    task = Pretrain(from_scratch(tiny.tokenizer(), config), texts(), config)
    drawn = [one for seed in range(40) for one in task.draw(np.random.default_rng(seed))]
    assert np.mean([one.follows for one in drawn]) == pytest.approx(0.5, abs=0.06)
    for example in drawn:
        assert example.segments == sorted(example.segments)
        assert example.whole.count(3) == 2


def test_a_shop_makes_its_encoder_from_nothing_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("\n".join([*texts(80), "", "这个杯子很好看", "蓝牙耳机音质不错"]))
    data = tiny.write_shop(tmp_path / "toy")
    (tmp_path / "one.toml").write_text(
        "hidden = 64\nlayers = 2\nheads = 2\nintermediate = 64\nmax_tokens = 32\ntokens = 16\nlearning_rate = 5e-3\n"
        "batch = 16\nevaluate_every = 20\n"
    )
    source = ["--dataset", str(data), "--texts", str(tmp_path / "more.txt")]
    words, out = tmp_path / "words", tmp_path / "model"
    made = CliRunner().invoke(app, ["tokenizer", *source, "--language", "zh", "--out", str(words)])
    assert made.exit_code == 0, made.output
    assert "reads han" in made.output
    arguments = [*source, "--scratch", str(words), "--config", str(tmp_path / "one.toml"), "--steps", "20"]
    done = CliRunner().invoke(app, ["pretrain", *arguments, "--objective", "retromae", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "next: python -m training encoder finetune" in done.output
    assert encode(load(out), ["这个杯子"]).shape == (1, 64)
    onward = [*source, "--model", str(out), "--config", str(tmp_path / "one.toml"), "--steps", "1"]
    further = CliRunner().invoke(app, ["pretrain", *onward, "--objective", "mlm", "--out", str(tmp_path / "further")])
    assert further.exit_code == 0, further.output
    # It goes on with the head that it kept; a new one would be some tenths away.
    kept, later = (load_file(directory / FILE)["dense.weight"] for directory in (out, tmp_path / "further"))
    assert 0 < float((kept - later).abs().max()) < 0.01
    both = CliRunner().invoke(app, ["pretrain", *arguments, "--model", str(out), "--out", str(tmp_path / "other")])
    assert both.exit_code == 1
    assert "--model, --scratch: one of them must be given, and not both" in both.output
    neither = CliRunner().invoke(app, ["tokenizer", "--out", str(tmp_path / "none")])
    assert neither.exit_code == 1
    assert "--dataset, --texts: one of them must be given" in neither.output


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("objective = 'clm'", r"objective: must be one of mlm, mlm\+nsp, tsdae, retromae, not 'clm'"),
        ("masked = 1.0", "masked: must be from 0.01 to 0.9, not 1"),
        ("heads = 3", "heads: must divide hidden, 256, not 3"),
        ("tokens = 4", "tokens: must be from 8 to 512, not 4"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "one.toml").write_text(text)
    with pytest.raises(ConfigError, match=problem):
        PretrainConfig.read(tmp_path / "one.toml")


def test_texts_that_cannot_be_learned_from_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="texts: 3 to learn from; 10 are needed"):
        Pretrain(from_scratch(tiny.tokenizer(), CONFIG), texts(3), CONFIG)
    with pytest.raises(ConfigError, match="tokens: at most the model's 32, not 64"):
        Pretrain(tiny.model(), texts(), replace(CONFIG, tokens=64))
    (tmp_path / "latin.txt").write_bytes("crème".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.txt: not UTF-8 \(.* at byte 2\)"):
        read_texts([tmp_path / "latin.txt"])
