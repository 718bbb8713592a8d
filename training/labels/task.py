"""A labelling task as a shop declares it in TOML: its columns, classes, seed words, negations."""

import csv
import gzip
import hashlib
import io
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SHIPPED = Path(__file__).parent / "shipped"
MAX_WORDS = 20
MAX_CHARACTERS = 20_000
UNLABELLED = -1
# Where a prompt has the text, and where the word that speaks for a class.
TEXT, MASK = "{text}", "[MASK]"


class TaskError(ValueError):
    """A task or its data cannot be used: says which field, and its limit."""


@dataclass(frozen=True, slots=True)
class LabelClass:
    """One class. `value`: how the label column writes it. `opposite`: the class that a negated seed word speaks for."""

    name: str
    value: str
    words: tuple[str, ...]
    opposite: str = ""
    share: float | None = None
    """Of the texts, as the shop believes; all classes have one or none has."""
    description: str = ""
    verbalisers: tuple[str, ...] = ()
    """What may stand in the prompt's gap; none: the seed words."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is labelled, and what is known of it before any label is read."""

    name: str
    language: str
    text: tuple[str, ...]
    label: str
    classes: tuple[LabelClass, ...]
    negations: tuple[str, ...] = ()
    contrasts: tuple[str, ...] = ()
    prompt: str = ""
    """With {text} and [MASK], once each; empty where language models are not asked."""

    @property
    def names(self) -> list[str]:
        """The classes' names, in their order."""
        return [one.name for one in self.classes]

    @property
    def shares(self) -> Floats | None:
        """What is believed of the classes' shares, (classes,), summing to 1; None where nothing is."""
        found = [one.share for one in self.classes if one.share is not None]
        return np.array(found) / sum(found) if found else None

    def number(self, name: str) -> int:
        """The place of a class. Raises ValueError."""
        return self.names.index(name)


@dataclass(frozen=True, slots=True)
class Texts:
    """Rows of a file. `row`: number in the file, from 1; `label`: class number, -1 for none."""

    text: tuple[str, ...]
    label: Ints
    row: Ints
    file_sha256: str

    def __len__(self) -> int:
        return len(self.text)

    def take(self, rows: Ints) -> "Texts":
        """Some of the rows, in that order."""
        return Texts(tuple(self.text[i] for i in rows), self.label[rows], self.row[rows], self.file_sha256)


def read_task(name: str) -> Task:
    """A shipped task by name, or the TOML file of a shop's own. Raises TaskError naming the field and its limit."""
    shipped = SHIPPED / f"{name}.toml"
    path = shipped if shipped.is_file() else Path(name)
    if not path.is_file():
        known = ", ".join(sorted(one.stem for one in SHIPPED.glob("*.toml")))
        raise TaskError(f"task: {name!r} is no file and none of {known}")
    try:
        return _task(path.stem, tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, TaskError) as error:
        raise TaskError(f"{path}: {error}") from None


def _task(name: str, table: dict[str, Any]) -> Task:
    known = {"language", "text", "label", "classes", "negations", "contrasts", "prompt"}
    if unknown := sorted(table.keys() - known):
        raise TaskError(f"{', '.join(unknown)}: unknown; a task has {', '.join(sorted(known))}")
    language = table.get("language", "en")
    if language not in ("en", "zh"):
        raise TaskError(f"language: must be en or zh, not {language!r}")
    if not isinstance(table.get("label"), str):
        raise TaskError("label: must name the column that holds the label, where there is one")
    text = _strings("text", table.get("text", []))
    if not text:
        raise TaskError("text: must name at least one column")
    given = table.get("classes", [])
    if not isinstance(given, list) or len(given) < 2:
        raise TaskError("classes: at least 2 are needed")
    classes = tuple(_class(place, one) for place, one in enumerate(given))
    names = [one.name for one in classes]
    if len(set(names)) < len(names) or len({one.value for one in classes}) < len(names):
        raise TaskError("classes: two have the same name or the same value")
    for one in classes:
        if one.opposite and one.opposite not in names:
            raise TaskError(f"classes, {one.name}, opposite: {one.opposite!r} is no class")
    if len({one.share is None for one in classes}) > 1:
        raise TaskError("classes, share: all classes have one, or none has")
    negations, contrasts = (_strings(key, table.get(key, [])) for key in ("negations", "contrasts"))
    prompt = table.get("prompt", "")
    if not isinstance(prompt, str) or (prompt and [prompt.count(one) for one in (TEXT, MASK)] != [1, 1]):
        raise TaskError(f"prompt: must be text with {TEXT} once and {MASK} once, not {prompt!r}")
    return Task(name, language, text, table["label"], classes, negations, contrasts, prompt)


def _class(place: int, table: dict[str, Any]) -> LabelClass:
    known = {"name", "value", "words", "opposite", "share", "description", "verbalisers"}
    if unknown := sorted(table.keys() - known):
        raise TaskError(f"classes[{place}], {', '.join(unknown)}: unknown; a class has {', '.join(sorted(known))}")
    name = table.get("name")
    if not isinstance(name, str) or not name:
        raise TaskError(f"classes[{place}], name: is missing")
    words = _strings(f"classes, {name}, words", table.get("words", []))
    if not 1 <= len(words) <= MAX_WORDS:
        raise TaskError(f"classes, {name}, words: 1 to {MAX_WORDS} are allowed, not {len(words)}")
    description = table.get("description", "")
    if not isinstance(description, str):
        raise TaskError(f"classes, {name}, description: must be text, not {description!r}")
    verbalisers = _strings(f"classes, {name}, verbalisers", table.get("verbalisers", []))
    if len(verbalisers) > MAX_WORDS:
        raise TaskError(f"classes, {name}, verbalisers: at most {MAX_WORDS} are allowed, not {len(verbalisers)}")
    share = table.get("share")
    if share is not None and not (isinstance(share, int | float) and 0 < share < 1):
        raise TaskError(f"classes, {name}, share: must be above 0 and below 1, not {share!r}")
    return LabelClass(
        name,
        str(table.get("value", name)),
        tuple(word.lower() for word in words),
        str(table.get("opposite", "")),
        None if share is None else float(share),
        description,
        verbalisers,
    )


def _strings(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise TaskError(f"{name}: must be a list of text")
    if len(set(value)) < len(value):
        raise TaskError(f"{name}: says a word twice")
    return tuple(value)


def read_texts(path: Path, task: Task) -> Texts:
    """The rows of a CSV (or .csv.gz) that have a text. The label column may be missing or empty.

    Raises TaskError (file, row, column) where a text column is missing, a text is over 20,000 characters or a label is
    none of the task's values.
    """
    rows = read_rows(path)
    if rows and (missing := [name for name in task.text if name not in rows[0]]):
        raise TaskError(f"{path}: no column {', '.join(missing)}; it has {', '.join(rows[0])}")
    numbers = {one.value: place for place, one in enumerate(task.classes)}
    texts, labels, places = [], [], []
    for place, row in enumerate(rows, 1):
        text = ". ".join(part.strip() for name in task.text if (part := row[name]).strip())
        if not text:
            continue
        if len(text) > MAX_CHARACTERS:
            raise TaskError(f"{path.name}, row {place}: {len(text):,} characters, {MAX_CHARACTERS:,} are allowed")
        texts.append(text)
        labels.append(_number(row.get(task.label, ""), numbers, f"{path.name}, row {place}, {task.label}"))
        places.append(place)
    if not texts:
        raise TaskError(f"{path}: no row has a text")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Texts(tuple(texts), np.array(labels), np.array(places), digest)


def read_gold(path: Path, task: Task) -> dict[int, int]:
    """Answers of a person: row number in the file (column `row`) -> class number; rows without an answer are left out.

    The label column is the task's; it may hold the class's value or name. Raises TaskError.
    """
    numbers = {one.value: place for place, one in enumerate(task.classes)}
    numbers |= {one.name: place for place, one in enumerate(task.classes)}
    gold: dict[int, int] = {}
    for place, row in enumerate(read_rows(path), 1):
        if "row" not in row or task.label not in row:
            raise TaskError(f"{path}: needs the columns row and {task.label}; it has {', '.join(row)}")
        if not row["row"].isdecimal():
            raise TaskError(f"{path.name}, row {place}, row: must be a number of the data file, not {row['row']!r}")
        number = _number(row[task.label], numbers, f"{path.name}, row {place}, {task.label}")
        if number != UNLABELLED and gold.setdefault(int(row["row"]), number) != number:
            raise TaskError(f"{path.name}, row {place}: row {row['row']} has another answer already")
    if not gold:
        raise TaskError(f"{path}: holds no answer in {task.label}")
    return gold


def read_rows(path: Path) -> list[dict[str, str]]:
    """A CSV, gzipped where its name says so, row by row. Raises TaskError."""
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
        return [{k: v or "" for k, v in row.items() if k is not None} for row in csv.DictReader(io.StringIO(text))]
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise TaskError(f"{path}: {error}") from None


def _number(written: str, numbers: dict[str, int], where: str) -> int:
    if not written.strip():
        return UNLABELLED
    if written.strip() not in numbers:
        raise TaskError(f"{where}: {written!r} is none of {', '.join(numbers)}")
    return numbers[written.strip()]
