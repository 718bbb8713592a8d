"""Export of a tiny BERT: what passes its gates is written whole, what fails leaves nothing."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel, BertTokenizerFast
from typer.testing import CliRunner

from services.domain.text import TextTemplate
from training.encoder import export as export_module
from training.encoder.card import CARD, MODEL, TOKENIZER, Card, ExportError
from training.encoder.cli import app
from training.encoder.export import SentenceEncoder, export
from training.encoder.gates import GateError, Gates


def write_bert(path: Path, shift: float = 0.0) -> Path:
    """A BERT of two small layers with random weights, the same each time but for a random shift of that size."""
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=400, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64,
    )  # fmt: skip
    model = BertModel(config)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(shift * torch.randn_like(weights))
    model.save_pretrained(path)
    letters = [chr(code) for code in range(33, 127)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + letter for letter in letters)]
    BertTokenizerFast(vocab={token: i for i, token in enumerate(vocabulary)}).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def exported(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Card]:
    """`tiny` as exported, in a directory alone, with the card that was given: once, since an export takes seconds."""
    out = tmp_path_factory.mktemp("encoders") / "made" / "encoder"
    return out, export(tiny, out, TextTemplate(), say_nothing)


def say_nothing(_: str) -> None:
    pass


def test_an_encoder_is_written_whole(tiny: Path, exported: tuple[Path, Card]) -> None:
    out, card = exported
    assert sorted(file.name for file in out.iterdir()) == sorted([MODEL, TOKENIZER, CARD])
    assert [file.name for file in out.parent.iterdir()] == ["encoder"]
    assert (card.dim, card.max_tokens, card.scripts) == (32, 64, ())
    assert card.metrics["encoder.parity_min_cosine"] > 0.99999
    assert Card.read(out / CARD) == card
    tokenizer = Tokenizer.from_file(str(out / TOKENIZER))
    assert tokenizer.padding is None
    assert tokenizer.truncation is None
    assert str(tiny) not in (out / MODEL).read_bytes().decode("latin-1")
    assert "site-packages" not in (out / MODEL).read_bytes().decode("latin-1")


def test_the_space_changes_with_what_decides_where_a_text_lands(tiny: Path) -> None:
    def version(template: TextTemplate, max_tokens: int = 64, scale: float = 1.0) -> str:
        module, _, _ = export_module.read_model(tiny)
        with torch.no_grad():
            next(module.parameters()).mul_(scale)
        return export_module._space_version(module, tiny / TOKENIZER, template, max_tokens)

    same = version(TextTemplate())
    assert same == version(TextTemplate())
    others = [
        version(TextTemplate(query_prefix="query: ")),
        version(TextTemplate(), 32),
        version(TextTemplate(), 64, 2),
    ]
    assert len({same, *others}) == 4


class Unmasked(SentenceEncoder):
    """Pools padding too, so that a text's vector depends on its company."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        pooled = hidden.mean(dim=1)
        return pooled, torch.nn.functional.normalize(pooled, dim=1)


def test_a_vector_that_depends_on_its_batch_is_refused(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "SentenceEncoder", Unmasked)
    with pytest.raises(GateError, match=r"^batch invariance: min cosine 0\.\d+ is 0\.\d+ below the limit 0\.9999$"):
        export(tiny, tmp_path / "encoder", TextTemplate(), say_nothing)
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_says_something_else_is_refused_on_the_command_line(
    exported: tuple[Path, Card], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_bert(tmp_path / "other", shift=0.05)
    monkeypatch.setattr(export_module, "to_onnx", lambda module, path: shutil.copyfile(exported[0] / MODEL, path))
    result = CliRunner().invoke(app, ["export", "--out", str(tmp_path / "encoder"), "--model", str(other)])
    assert result.exit_code == 1
    assert "refused: parity with PyTorch: min cosine 0." in result.output
    assert list(tmp_path.iterdir()) == [other]


def test_not_a_number_passes_no_gate() -> None:
    with pytest.raises(GateError, match=r"parity with PyTorch.*; batch invariance"):
        Gates(parity=float("nan"), invariance=float("nan")).check()


def test_a_model_that_cannot_be_exported_is_refused_by_name(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"nowhere/config\.json: missing"):
        export(tmp_path / "nowhere", tmp_path / "encoder", TextTemplate(), say_nothing)
    other = tmp_path / "other"
    other.mkdir()
    for file in tiny.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    (other / "1_Pooling").mkdir()
    (other / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode_mean_tokens": False}))
    with pytest.raises(ExportError, match="not pooled by the mean"):
        export(other, tmp_path / "encoder", TextTemplate(), say_nothing)
    with pytest.raises(ExportError, match="exists already"):
        export(tiny, other, TextTemplate(), say_nothing)
    assert not (tmp_path / "encoder").exists()
