"""What is exported is what was trained; what is not is refused and leaves nothing behind."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import typer

from services.domain.features import FEATURES
from tests.unit.training.ranker.logs import tastes
from training.ranker.card import CARD, ITEMS, PROJECTION, SHOPPER, CardError, Promise, RankerCard
from training.ranker.card import HEADS as HEADS_FILE
from training.ranker.config import RankerConfig
from training.ranker.examples import collate, session_examples
from training.ranker.export import GateError, export_ranker, prove
from training.ranker.heads import Heads
from training.ranker.log import Log
from training.ranker.model import Shopper
from training.ranker.train import Trained, Training
from training.train_cli import refusals

CONFIG = RankerConfig(dim=16, max_history=8, epochs=1)
_DRAWN = np.random.default_rng(1)
_WEIGHTS = _DRAWN.standard_normal((len(FEATURES), 3)).astype(np.float32)
_DOUBT = _DRAWN.standard_normal((3, len(FEATURES) + 1, len(FEATURES) + 1)).astype(np.float32)
HEADS = Heads(_WEIGHTS, np.zeros(3, np.float32), _DOUBT)
PROMISE = Promise(2.9, 1e-4, 8.0, 1.0, 160, 0.5, 100, "some", "others")


def make(directory: Path) -> tuple[Log, Trained]:
    log, content = tastes(shoppers=40)
    examples = session_examples(log, 0)
    learn = np.arange(len(examples))
    until = time.monotonic() + 60
    return log, Training(
        log, examples, learn, learn[:10], content, CONFIG, until, directory / "c.pt", lambda e: None
    ).run()


def test_it_does_as_what_was_trained(tmp_path: Path) -> None:
    log, trained = make(tmp_path)
    out = tmp_path / "ranker"
    card = export_ranker(trained, HEADS, log.item_ids, "content", {"some": 1.0}, out)
    assert RankerCard.read(out / CARD) == card
    assert card.metrics["some"] == 1.0
    assert card.metrics["ranker.parity_min_cosine"] > 0.99999
    assert card.manifest.features == FEATURES
    assert card.manifest.content_space_version == "content"
    with np.load(out / ITEMS) as arrays:
        ids, vectors = arrays["ids"], arrays["vectors"]
    with np.load(out / PROJECTION) as arrays:
        weight, bias = arrays["W"], arrays["b"]
    _, content = tastes(shoppers=40)
    table = trained.table(content)
    number_of = {item_id: number for number, item_id in enumerate(log.item_ids)}
    assert vectors == pytest.approx(table[[number_of[one] for one in ids.tolist()]], abs=1e-6)
    guessed = content @ weight + bias
    guessed /= np.linalg.norm(guessed, axis=1, keepdims=True)
    blank = Trained(trained.model, trained.known, 0, 0).table(np.concatenate([content, content]))[len(content) :]
    assert guessed == pytest.approx(blank, abs=1e-5)
    examples = session_examples(log, 0)
    batch = collate(log, examples, np.arange(6), 8)
    session = onnxruntime.InferenceSession(str(out / SHOPPER))
    (said,) = session.run(
        ["shopper"],
        {
            "items": table[batch.items] * batch.mask[..., None],
            "types": batch.types,
            "gaps": batch.gaps,
            "mask": batch.mask,
        },
    )
    assert said == pytest.approx(trained.shoppers(table, batch), abs=1e-5)
    # Another model beside these files is found out.
    with pytest.raises(GateError, match=r"shopper\.onnx: parity"):
        prove(Shopper(CONFIG).eval(), HEADS, out)
    with pytest.raises(GateError, match=r"heads\.onnx: parity"):
        prove(trained.model.shopper.eval(), replace(HEADS, weights=HEADS.weights + 1), out)
    with pytest.raises(GateError, match=r"heads\.onnx: deviations differ"):
        prove(trained.model.shopper.eval(), replace(HEADS, doubt=_DOUBT * np.float32(1.001)), out)
    with pytest.raises(FileExistsError, match="exists already"):
        export_ranker(trained, HEADS, log.item_ids, "content", {}, out)
    broken = replace(HEADS, weights=HEADS.weights * np.float32("nan"))
    with pytest.raises(GateError):
        export_ranker(trained, broken, log.item_ids, "content", {}, tmp_path / "other")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["c.pt", "ranker"]


def test_heads_that_do_not_say_how_unsure_they_are(tmp_path: Path) -> None:
    log, trained = make(tmp_path)
    silent = replace(HEADS, doubt=None)
    card = export_ranker(trained, silent, log.item_ids, "content", {}, tmp_path / "ranker", PROMISE)
    assert RankerCard.read(tmp_path / "ranker" / CARD) == card
    assert card.privacy == PROMISE
    session = onnxruntime.InferenceSession(str(tmp_path / "ranker" / HEADS_FILE))
    assert [output.name for output in session.get_outputs()] == ["probability", "logit"]
    with pytest.raises(ValueError, match="do not say how unsure"):
        silent.deviation(np.zeros((1, len(FEATURES)), np.float32))


def test_a_gate_that_fails_is_told_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as left, refusals():
        raise GateError("heads.onnx: parity: probabilities differ by 2.00e-05, more than 1e-05")
    assert left.value.exit_code == 1
    assert capsys.readouterr().out.startswith("refused: heads.onnx: parity: probabilities differ by 2.00e-05")


@pytest.mark.parametrize(("text", "problem"), [(None, "train ranker` writes it"), ("[]", "not a ranker's card")])
def test_a_card_that_is_none_is_told(tmp_path: Path, text: str | None, problem: str) -> None:
    if text is not None:
        (tmp_path / CARD).write_text(text)
    with pytest.raises(CardError, match=problem):
        RankerCard.read(tmp_path / CARD)
