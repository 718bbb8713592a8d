"""Near words are those of the definition, whatever is passed over on the way."""

from hypothesis import given
from hypothesis import strategies as st

from services.retriever.spelling import Spelling, SpellingView, faults_allowed

spelt = st.text(st.sampled_from("abcdé"), min_size=4, max_size=10)


def view_of(words: list[str]) -> SpellingView:
    spelling = Spelling()
    spelling.add({word: number for number, word in enumerate(words)})
    return spelling.view()


def near(view: SpellingView, word: str, faults: int) -> dict[str, int]:
    rows, distances = view.near(word, faults)
    return {view.word(row): distance for row, distance in zip(rows.tolist(), distances.tolist(), strict=True)}


def distance(one: str, other: str) -> int:
    """Optimal string alignment, cell by cell."""
    table = [[i + j for j in range(len(other) + 1)] for i in range(len(one) + 1)]
    for i in range(1, len(one) + 1):
        for j in range(1, len(other) + 1):
            wrong = one[i - 1] != other[j - 1]
            table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + wrong)
            if i > 1 and j > 1 and one[i - 1] == other[j - 2] and one[i - 2] == other[j - 1]:
                table[i][j] = min(table[i][j], table[i - 2][j - 2] + 1)
    return table[-1][-1]


@given(st.lists(spelt, unique=True, max_size=40), spelt, st.integers(1, 2))
def test_finds_all_that_are_near_and_no_others(words: list[str], word: str, faults: int) -> None:
    expected = {other: distance(word, other) for other in words if 0 < distance(word, other) <= faults}
    assert near(view_of(words), word, faults) == expected


def test_neighbours_changed_round_are_one_fault() -> None:
    assert near(view_of(["laptop", "lamp"]), "lapotp", 1) == {"laptop": 1}


def test_a_view_stays_as_it_was() -> None:
    spelling = Spelling()
    spelling.add({"headphones": 0})
    before = spelling.view()
    spelling.add({"headphone": 1})
    assert near(before, "headphons", 2) == {"headphones": 1}
    assert near(spelling.view(), "headphons", 2) == {"headphones": 1, "headphone": 1}


def test_short_words_are_not_guessed() -> None:
    assert [faults_allowed(word) for word in ("usb", "lamp", "charger", "keyboard", "x" * 25)] == [0, 1, 1, 2, 0]
