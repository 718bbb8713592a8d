"""What a cross-encoder reads, and how what it says joins the score."""

import numpy as np
import pytest

from services.domain.reranking import batch, candidate_text, fused, joined

CLS, SEP = 101, 102


def test_a_candidate_is_read_by_what_the_retrievers_answer_carries() -> None:
    assert candidate_text("Red mug", "Acme", "Kitchen > Mugs") == "Red mug. Acme. Kitchen > Mugs"
    assert candidate_text("Red mug", "", "") == "Red mug"


def test_query_and_item_share_the_room() -> None:
    query, item = [CLS, 1, 2, SEP], [CLS, 5, 6, 7, SEP]
    assert joined(query, item, 16) == ([CLS, 1, 2, SEP, 5, 6, 7, SEP], 4)
    assert joined(query, item, 7) == ([CLS, 1, SEP, 5, 6, 7, SEP], 3)
    long = [CLS, *range(1, 50), SEP]
    ids, asked = joined(long, long, 12)
    assert (len(ids), asked) == (12, 6)
    assert ids[5] == ids[-1] == SEP


def test_a_batch_is_padded_and_tells_query_from_item() -> None:
    made = batch([([CLS, 1, SEP, 5, SEP], 3), ([CLS, SEP, SEP], 2)])
    assert made["input_ids"].tolist() == [[CLS, 1, SEP, 5, SEP], [CLS, SEP, SEP, 0, 0]]
    assert made["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert made["token_type_ids"].tolist() == [[0, 0, 0, 1, 1], [0, 0, 1, 0, 0]]
    assert {values.dtype for values in made.values()} == {np.dtype(np.int64)}


def test_scores_and_relevance_are_weighed() -> None:
    scores, relevance = np.array([4.0, 2.0, 1.0]), np.array([0.1, 0.9, np.nan])
    assert fused(scores, relevance, 0.5).tolist() == pytest.approx([0.55, 0.7, 0.125])
    assert fused(scores, relevance, 0.0).tolist() == pytest.approx([1, 0.5, 0.25])
    assert fused(np.zeros(2), np.array([0.2, 0.4]), 0.5).tolist() == pytest.approx([0.1, 0.2])
