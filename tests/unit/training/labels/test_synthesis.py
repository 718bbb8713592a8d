"""Labels from seed words on planted reviews: who is content uses words that are no seed, too."""

import numpy as np
import pytest

from training.labels.ask import ask
from training.labels.functions import vote
from training.labels.measure import agreement, measure
from training.labels.noise import inject, suspects
from training.labels.student import balanced, fit_student, vectoriser
from training.labels.synthesis import Synthesis, TooLittle, synthesise
from training.labels.task import LabelClass, Task

TASK = Task(
    "mood",
    "en",
    ("text",),
    "label",
    (
        LabelClass("good", "1", ("love", "great"), opposite="bad", share=0.5),
        LabelClass("bad", "0", ("awful", "poor"), opposite="good", share=0.5),
    ),
    negations=("not", "n't"),
    contrasts=("but",),
)
SEEDS = (("love", "great"), ("awful", "poor"))
TOLD = (("flattering", "cosy", "elegant"), ("itchy", "ripped", "faded"))
PLAIN = ("shirt", "blue", "sleeve", "size", "ordered", "winter", "collar", "button")


def planted(count: int, seed: int = 3) -> tuple[list[str], np.ndarray]:
    """Every text has words that tell its class, half have a seed word, one in twenty of them a wrong one."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    texts = []
    for label in labels.tolist():
        words = [*rng.choice(PLAIN, 4), *rng.choice(TOLD[label], 2)]
        if rng.random() < 0.5:
            words.append(rng.choice(SEEDS[label if rng.random() > 0.05 else 1 - label]))
        texts.append(" ".join(rng.permutation(words)))
    return texts, labels


@pytest.fixture(scope="module")
def made() -> tuple[list[str], np.ndarray, object, Synthesis]:
    texts, labels = planted(600)
    features = vectoriser("en").fit_transform(texts)
    return texts, labels, features, synthesise(features, vote(TASK, texts), 2, TASK.shares)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("I love it", {"love": 0}),
        ("I do not love it", {"love negated": 1}),
        ("It isn't great", {"great negated": 1}),
        ("not cheap, I love it", {"love": 0}),
        ("great colour but awful fabric", {"great before a contrast": 0, "awful": 1}),
        ("a glove", {}),
    ],
)
def test_a_seed_word_says_what_it_means_in_its_place(text: str, said: dict[str, int]) -> None:
    votes = vote(TASK, [text])
    assert {votes.names[one]: int(votes.says[one]) for one in votes.fired[0].indices} == said


def test_chinese_negations_reach_to_the_end_of_their_clause() -> None:
    good, bad = LabelClass("好", "1", ("满意",), opposite="差"), LabelClass("差", "0", ("失望",))
    votes = vote(Task("m", "zh", ("t",), "l", (good, bad), negations=("不",)), ["很不满意", "东西不贵，满意", "不失望"])
    fired = [[votes.names[one] for one in row.indices] for row in votes.fired]
    assert fired == [["满意 negated"], ["满意"], []]


def test_the_student_reads_texts_without_a_seed_word(made: tuple[list[str], np.ndarray, object, Synthesis]) -> None:
    texts, labels, features, synthesis = made
    votes = vote(TASK, texts)
    silent = np.asarray(votes.fired.sum(axis=1)).ravel() == 0
    found = measure(synthesis.student.soft(features), labels)
    assert silent.sum() > 200
    assert (synthesis.functions.soft(votes).argmax(axis=1) == labels)[silent].mean() < 0.6
    assert (synthesis.student.soft(features).argmax(axis=1) == labels)[silent].mean() > 0.95
    assert found.accuracy > 0.95


def test_the_belief_about_shares_holds_against_words_of_one_class() -> None:
    texts, labels = planted(600)
    # Nearly all who are content say so in a seed word, few of the others.
    texts = [f"{text} great" if label == 0 else text for text, label in zip(texts, labels.tolist(), strict=True)]
    features, votes = vectoriser("en").fit_transform(texts), vote(TASK, texts)
    said = synthesise(features, votes, 2, TASK.shares).student.soft(features)
    assert abs(said[:, 1].mean() - 0.5) < 0.02


def test_a_persons_labels_count_more_than_the_words() -> None:
    texts, labels = planted(400)
    features, votes = vectoriser("en").fit_transform(texts), vote(TASK, texts)
    silent = np.flatnonzero(np.asarray(votes.fired.sum(axis=1)).ravel() == 0)[:20]
    turned = {int(row): int(1 - labels[row]) for row in silent}
    before = synthesise(features, votes, 2).student.soft(features)[silent, labels[silent]].mean()
    after = synthesise(features, votes, 2, gold=turned).student.soft(features)[silent, labels[silent]].mean()
    assert after < before - 0.05


def test_words_that_no_text_has_are_refused() -> None:
    features = vectoriser("en").fit_transform(["love shirt"] * 5)
    with pytest.raises(TooLittle, match="those of 1 of the 2 classes are in no text"):
        synthesise(features, vote(TASK, ["love shirt"] * 5), 2)


def test_ece_is_the_gap_between_being_sure_and_being_right() -> None:
    soft = np.tile([0.9, 0.1], (10, 1))
    found = measure(soft, np.array([0] * 6 + [1] * 4))
    assert found.accuracy == pytest.approx(0.6)
    assert found.ece == pytest.approx(0.3)


def test_a_focal_student_attends_to_what_is_hard() -> None:
    # Of texts that say "plain" one in ten is of class 1; all that say "sure" are of class 0.
    texts = ["plain"] * 100 + ["sure"] * 900
    labels = np.array([1] * 10 + [0] * 990)
    features = vectoriser("en").fit_transform(texts)
    usual, focal = (fit_student(features, np.eye(2)[labels], focal=g).soft(features) for g in (0.0, 2.0))
    assert usual[0, 1] == pytest.approx(0.1, abs=0.03)
    assert focal[0, 1] > usual[0, 1] + 0.03
    assert focal[-1, 1] > usual[-1, 1]


def test_kappa_is_nothing_for_agreement_by_chance() -> None:
    labels = np.array([0, 0, 1, 1])
    assert agreement(np.array([0, 1, 0, 1]), labels).kappa == pytest.approx(0)
    assert agreement(labels, labels).kappa == 1


def test_wrong_labels_are_found_and_right_ones_left() -> None:
    texts, labels = planted(600)
    found = inject(vectoriser("en").fit_transform(texts), labels, 2, 0.2, 5)
    assert found.found > 0.7
    assert found.precision > 0.8
    assert found.excess < 1 / 3


def test_wrong_labels_of_a_rare_class_are_found() -> None:
    texts, labels = planted(1500, seed=5)
    rows = np.flatnonzero((labels == 0) | (np.arange(1500) % 6 == 0))
    texts, labels = [texts[row] for row in rows], labels[rows]
    # More than half of the labels of the rare class are wrong.
    found = inject(vectoriser("en").fit_transform(texts), labels, 2, 0.25, 5)
    assert found.found > 0.85
    assert found.precision > 0.95


def test_labels_that_the_student_agrees_with_are_no_suspects() -> None:
    soft = np.array([[0.9, 0.1]] * 5 + [[0.1, 0.9]] * 5 + [[0.05, 0.95]])
    labels = np.array([0] * 5 + [1] * 5 + [0])
    assert suspects(soft, labels).nonzero()[0].tolist() == [10]


def test_what_is_asked_is_uncertain_common_and_not_twice_the_same() -> None:
    texts = ["blue shirt"] * 4 + ["warm coat"] * 4 + ["green hat"] * 4 + ["odd"]
    features = vectoriser("en").set_params(min_df=1).fit_transform(texts)
    soft = np.array([[0.5, 0.5]] * 8 + [[0.99, 0.01]] * 4 + [[0.5, 0.5]])
    asked = ask(features, soft, 2)
    assert {texts[row] for row in asked} == {"blue shirt", "warm coat"}


def test_balanced_classes_count_alike() -> None:
    soft = np.eye(2)[[0] * 90 + [1] * 10]
    assert balanced(soft, 0).tolist() == [1.0] * 100
    weights = balanced(soft, 0.9999)
    assert weights[:90].sum() == pytest.approx(weights[90:].sum(), rel=0.01)
    # Cui et al. 2019: (1 - b) / (1 - b^n).
    some = balanced(soft, 0.9)
    assert some[90] / some[0] == pytest.approx((1 - 0.9**90) / (1 - 0.9**10))


def test_balance_finds_more_of_a_rare_class_and_the_report_tells_head_and_tail() -> None:
    texts, labels = planted(1500, seed=5)
    rows = np.flatnonzero((labels == 0) | (np.arange(1500) % 12 == 0))
    texts, labels = [texts[row] for row in rows], labels[rows]
    features, taught = vectoriser("en").fit_transform(texts), np.eye(2)[labels]
    # Half of the texts, and few rounds: a student that is not sure.
    plain, even = (fit_student(features[::2], taught[::2], balanced(taught[::2], b), ridge=20.0) for b in (0.0, 0.999))
    before, after = (measure(one.soft(features[1::2]), labels[1::2]) for one in (plain, even))
    assert before.head_f1 > before.tail_f1
    assert after.tail_f1 > before.tail_f1 + 0.1
