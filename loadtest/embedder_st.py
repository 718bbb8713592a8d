"""A rival of embedder_rivals in a process of its own: sentence-transformers with PyTorch, as it comes.

Reads lines of "tokens seconds" and answers each with texts a second in batches of 32.
"""

import sys
import time
from pathlib import Path

from sentence_transformers import SentenceTransformer

from loadtest.embedder_rivals import BATCH, Words
from training.encoder.export import default_model


def main() -> None:
    """Until its input ends."""
    model = SentenceTransformer(str(default_model()), device="cpu")
    words = Words(Path(sys.argv[1]))
    for line in sys.stdin:
        tokens, seconds = int(line.split()[0]), float(line.split()[1])
        began, done = time.perf_counter(), 0
        while time.perf_counter() < began + seconds:
            model.encode(words.texts(tokens, BATCH), batch_size=BATCH, show_progress_bar=False)
            done += BATCH
        print(done / (time.perf_counter() - began), flush=True)


if __name__ == "__main__":
    main()
