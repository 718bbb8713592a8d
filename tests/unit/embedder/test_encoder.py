"""The encoder against PyTorch and against itself in other company."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from services.domain.bundle import EncoderManifest, read_bundle
from services.embedder.encoder import AUTO, CPU, Encoder, opened
from services.runtime.bfloat16 import OPENVINO, BFloat16Session
from services.runtime.onnx import ProviderError, Session, SessionLost
from souk.vectors import Float32
from training.encoder.export import default_model

TEXTS = [
    "tv",
    "noise cancelling headphones WH-1000XM4",
    "a lamp for a desk that two people share. " * 5,
    "café crème 250g",
    "word " * 400,
]


@pytest.fixture(scope="module")
def manifest(bundle: Path) -> EncoderManifest:
    return read_bundle(bundle).manifest.encoder


@pytest.fixture(scope="module")
def encoder(bundle: Path, manifest: EncoderManifest) -> Encoder:
    return Encoder(bundle, manifest, CPU)


@pytest.fixture(scope="module")
def reference() -> Float32:
    """Mean-pooled vectors of TEXTS by transformers, as the model's card says to compute them."""
    tokenizer = AutoTokenizer.from_pretrained(default_model())
    model = AutoModel.from_pretrained(default_model()).eval()
    read = tokenizer(TEXTS, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**read).last_hidden_state
    mask = read["attention_mask"].unsqueeze(-1)
    pooled: Float32 = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
    return pooled


def cosines(a: Float32, b: Float32) -> Float32:
    result: Float32 = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return result


def test_it_says_what_pytorch_says(encoder: Encoder, reference: Float32) -> None:
    vectors = encoder.encode(encoder.tokenise(TEXTS))
    assert vectors.shape == (len(TEXTS), 384)
    assert cosines(vectors, reference).min() > 0.99999


def test_a_text_has_one_vector_alone_and_in_a_batch(encoder: Encoder) -> None:
    together = encoder.encode(encoder.tokenise(TEXTS))
    alone = np.concatenate([encoder.encode(encoder.tokenise([text])) for text in TEXTS])
    assert cosines(together, alone).min() > 0.9999


def test_a_long_text_is_cut_and_says_so(encoder: Encoder) -> None:
    short, exact, long = encoder.tokenise(["word", "word " * 254, "word " * 255])
    assert (len(short.ids), short.truncated) == (3, False)
    assert (len(exact.ids), exact.truncated) == (256, False)
    assert (len(long.ids), long.truncated) == (256, True)


@pytest.mark.parametrize(
    ("text", "covered"),
    [
        ("red shoes", True),
        ("WH-1000XM4", True),
        ("12 x 30", True),
        ("crème brûlée", True),
        ("无线蓝牙耳机", False),
        ("sony wh-1000xm4 耳机", True),
        ("耳机 sony 无线降噪", False),
        ("наушники", False),
    ],
)
def test_it_knows_which_scripts_it_can_read(encoder: Encoder, text: str, covered: bool) -> None:
    assert encoder.tokenise([text])[0].covered is covered


def test_a_failure_of_one_batch_is_not_taken_for_a_lost_session(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Session.run

    def fails_on_two(self: Session, outputs: list[str], inputs: dict[str, np.ndarray]) -> list[Float32]:
        if len(inputs["input_ids"]) == 2:
            raise RuntimeError("two")
        return run(self, outputs, inputs)

    monkeypatch.setattr(Session, "run", fails_on_two)
    with pytest.raises(RuntimeError, match="two"):
        encoder.encode(encoder.tokenise(["a", "b"]))
    assert encoder.encode(encoder.tokenise(["a"])).shape == (1, 384)


def test_a_session_that_fails_on_everything_is_lost(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> list[Float32]:
        raise RuntimeError("device gone")

    monkeypatch.setattr(Session, "run", gone)
    with pytest.raises(SessionLost, match="device gone"):
        encoder.encode(encoder.tokenise(["a"]))


def test_a_provider_that_is_not_here_is_refused(bundle: Path, manifest: EncoderManifest) -> None:
    with pytest.raises(ProviderError, match=r"NoSuchProvider is not installed; here are .*CPUExecutionProvider"):
        Encoder(bundle, manifest, "NoSuchProvider")


@pytest.fixture(scope="module")
def rounded(bundle: Path, manifest: EncoderManifest) -> Encoder:
    try:
        return Encoder(bundle, manifest, OPENVINO, 2)
    except ProviderError as error:
        pytest.skip(str(error))


def test_in_bfloat16_it_says_what_pytorch_says(rounded: Encoder, reference: Float32) -> None:
    rounded.warm_up()
    vectors = rounded.encode(rounded.tokenise(TEXTS))
    assert cosines(vectors, reference).min() > 0.9999


def test_few_tokens_are_left_to_float32(rounded: Encoder, encoder: Encoder) -> None:
    few, many = rounded.tokenise(["red running shoes"]), rounded.tokenise(["red running shoes " * 40])
    assert (rounded.encode(few) == encoder.encode(few)).all()
    assert (rounded.encode(many) != encoder.encode(many)).any()


def test_auto_takes_bfloat16_where_it_can(rounded: Encoder, bundle: Path, manifest: EncoderManifest) -> None:
    found, otherwise = opened(bundle, manifest, AUTO, 1)
    assert (found.provider, otherwise) == (OPENVINO, "")


def test_auto_without_the_package_is_onnx_runtime(
    bundle: Path, manifest: EncoderManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found, otherwise = opened(bundle, manifest, AUTO, 1)
    assert (found.provider, otherwise) == (CPU, "provider OpenVINO is not installed: pip install openvino")


def test_auto_that_gives_other_vectors_is_onnx_runtime(
    rounded: Encoder, bundle: Path, manifest: EncoderManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = BFloat16Session.run

    def off(self: BFloat16Session, outputs: list[str], inputs: dict[str, np.ndarray]) -> list[Float32]:
        return [values + 0.05 for values in run(self, outputs, inputs)]

    monkeypatch.setattr(BFloat16Session, "run", off)
    found, otherwise = opened(bundle, manifest, AUTO, 1)
    assert found.provider == CPU
    assert otherwise.startswith("OpenVINO: a text alone and in a batch differ, cosine 0.9")
