"""A rival of embedder_rivals: mosec serving the same engine, batched by mosec. `SOUK_BUNDLE=DIR python … --port N`."""

import os
from pathlib import Path

from mosec import Server, Worker

import services  # noqa: F401 - Before NumPy is loaded: a thread for each of the two workers.
from services.domain.bundle import read_bundle
from services.embedder.encoder import Encoder
from souk.vectors import Float32

WORKERS, BATCH = 2, 32


class Embed(Worker):  # type: ignore[misc, unused-ignore]
    """Texts -> mean-pooled vectors, as the embedder's encoder makes them."""

    def __init__(self) -> None:
        path = Path(os.environ["SOUK_BUNDLE"])
        self._encoder = Encoder(path, read_bundle(path).manifest.encoder, "CPUExecutionProvider")

    def deserialize(self, data: bytes) -> str:
        """The text as it is."""
        return data.decode()

    def serialize(self, data: Float32) -> bytes:
        """The numbers as they are."""
        return data.tobytes()

    def forward(self, data: list[str]) -> list[Float32]:
        """One inference for a batch."""
        return list(self._encoder.encode(self._encoder.tokenise(data)))


if __name__ == "__main__":
    server = Server()
    # Without a wait: what comes while a batch computes is the next one, as with the embedder. (10 ms were slower.)
    server.append_worker(Embed, num=WORKERS, max_batch_size=BATCH)
    server.run()
