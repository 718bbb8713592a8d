"""The release gate of an encoder: what its card says it proved, held against the limits."""

from training.encoder.card import Card

# Kept apart from gates.py, which needs torch: a bundle is assembled without.
MIN_PARITY_OF = {"fp32": 0.99999, "bf16": 0.999, "int8": 0.95}
"""Lowest cosine to what it was made of, by precision."""
MIN_INVARIANCE = 0.9999
"""Lowest cosine of a text alone to itself in a batch."""
MAX_LOST = 0.01
"""Of nDCG@10 of the hybrid, against the teacher's, on judged queries."""


def problems(card: Card) -> list[str]:
    """What forbids to release an encoder, each as the measure, its value and its limit; empty where nothing does.

    One in fewer bits must have been compared with what it was made of.
    """
    found = []
    for name, limit in (("parity", MIN_PARITY_OF.get(card.precision, 1.0)), ("invariance", MIN_INVARIANCE)):
        value = card.metrics.get(f"encoder.{name}_min_cosine", 1.0)
        if not value >= limit:
            found.append(f"{name}: min cosine {value:.6f}, the limit is {limit}")
    lost = card.metrics.get("encoder.ndcg@10_lost")
    if lost is not None and not lost <= MAX_LOST:
        found.append(f"quality: nDCG@10 {lost:.4f} lost against its teacher, the limit is {MAX_LOST}")
    if lost is None and card.precision != "fp32":
        found.append(f"quality: never measured, and {card.precision} rounds: run `encoder compare` first")
    return found
