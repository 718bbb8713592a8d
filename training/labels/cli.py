"""`python -m training synthesize` and `check-labels`: labels of texts on the command line."""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer

    from training.labels.functions import Votes
    from training.labels.task import Floats, Ints, Task, Texts

console = Console()

_DATA = typer.Option(help="CSV or CSV.gz with a text column; the label column may be missing.")
_TASK = typer.Option(help="sentiment_zh, category_zh, recommended_en, or a TOML file (docs/labels.md).")
_ROWS = typer.Option(help="Texts, drawn by seed, that are learned and measured on at most.", min=100)
_JSON = typer.Option("--json", help="Print the numbers as JSON and nothing else.")
# As many labels in a file are enough to measure on.
_MEASURED = 100


def synthesize(
    data: Annotated[Path, _DATA],
    task: Annotated[str, _TASK],
    gold: Annotated[Path | None, typer.Option(help="CSV of a person's answers: row, and the label column.")] = None,
    out: Annotated[Path | None, typer.Option(help="New directory for labels.csv, ask.csv and card.json.")] = None,
    ask: Annotated[int, typer.Option(help="Rows in ask.csv that a person should label next.", min=0)] = 32,
    seeds: Annotated[int, typer.Option(help="Splits, where the file has labels to measure against.", min=1)] = 3,
    rows: Annotated[int, _ROWS] = 20_000,
    balance: Annotated[
        float,
        typer.Option(help="How alike classes of unlike size count: 0 as they are, .999 nearly (Cui et al. 2019)."),
    ] = 0.0,
    focal: Annotated[
        float, typer.Option(help="How little what is known well counts: 0 as all else, 2 the usual (Lin et al. 2017).")
    ] = 0.0,
    model: Annotated[
        Path | None,
        typer.Option(
            help="Directory of an encoder: likeness to the classes' descriptions votes, too, and what fills the task's "
            "prompt, where `encoder pretrain` has kept the head for it."
        ),
    ] = None,
    generator: Annotated[
        Path | None,
        typer.Option(help="Directory of a causal language model: what it goes on with after the prompt votes, too."),
    ] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Label texts from the seed words of a task, without any label.

    Where the file has labels they are what is measured against, beside 32 gold labels and all of them: the labels that
    are written (--out) never see that column, only --gold.
    """
    # Imported here: scikit-learn takes a second, and --help should not.
    import numpy as np

    from training.labels.ask import ask as next_rows
    from training.labels.calibration import calibrate, tempered
    from training.labels.measure import agreement, over_seeds, protocol
    from training.labels.student import vectoriser
    from training.labels.synthesis import synthesise
    from training.labels.task import UNLABELLED, TaskError, read_gold, read_task, read_texts
    from training.new_directory import new_directory
    from training.train_cli import refusals

    result: dict[str, Any] = {}
    with refusals(), _progress() as progress:
        declared = read_task(task)
        if not 0 <= balance < 1:
            raise ValueError(f"--balance: must be from 0 to below 1, not {balance:g}")
        if not 0 <= focal <= 5:
            raise ValueError(f"--focal: must be from 0 to 5, not {focal:g}")
        if out is not None and out.exists():
            raise FileExistsError(f"{out}: exists already; name a new directory with --out")
        texts = read_texts(data, declared)
        answers = {} if gold is None else read_gold(gold, declared)
        if strange := sorted(answers.keys() - set(texts.row.tolist())):
            raise TaskError(f"{gold}, row: {strange[0]} is no row of {data} that has a text")
        reads = _reader(declared, model, generator)
        classes, labelled = len(declared.classes), int((texts.label != UNLABELLED).sum())
        measured = labelled >= _MEASURED
        steps = (4 if balance or focal else 3) * seeds * measured
        # Reading by the functions and learning, blind too where there are answers to hold it against.
        steps += (2 + bool(answers)) * (out is not None or bool(answers))
        bar = progress.add_task("seed words, features", total=steps or 1)
        if measured:
            runs = []
            for seed in range(seeds):
                some = texts.take(_drawn(np.flatnonzero(texts.label != UNLABELLED), rows, seed))
                made = vectoriser(declared.language)
                features = _features(made, some.text)
                progress.update(bar, description="measuring")
                votes, alone = reads(some.text)
                runs.append(
                    protocol(
                        features,
                        votes,
                        some.label,
                        classes,
                        declared.shares,
                        balance,
                        focal,
                        alone,
                        seed,
                        lambda: progress.advance(bar),
                    )
                )
            result = {**over_seeds(runs), "seeds": seeds, "rows": len(some)}
        if out is not None or answers:
            asked = np.flatnonzero(np.isin(texts.row, list(answers)))
            others = np.setdiff1d(np.arange(len(texts)), asked)
            learned = texts.take(np.concatenate([asked, _drawn(others, rows, 0)]))
            made = vectoriser(declared.language)
            features, (votes, _) = _features(made, learned.text), reads(learned.text)
            persons = np.array([answers[int(row)] for row in learned.row[: len(asked)]], np.int64)
            progress.update(bar, description="labelling", advance=1)
            if answers:
                blind = synthesise(features, votes, classes, declared.shares, balance=balance, focal=focal)
                said = blind.student.soft(features[: len(asked)])
                result["gold"] = asdict(agreement(said.argmax(axis=1), persons))
                result["calibration"] = asdict(calibrate(said, persons))
                progress.advance(bar)
            given = dict(enumerate(persons.tolist()))
            final = synthesise(features, votes, classes, declared.shares, given, balance, focal)
            progress.advance(bar)
        if out is not None:
            (votes, _), features = reads(texts.text), made.transform(texts.text)
            soft = final.student.soft(features)
            if answers:
                soft = tempered(soft, result["calibration"]["temperature"])
            with new_directory(out) as draft:
                written = list(_labels(declared, texts, soft, answers, votes))
                given_each = Counter(str(line[1]) for line in written)
                result["labels"] = {one.name: given_each[one.value] for one in declared.classes}
                _write(draft / "labels.csv", ("row", declared.label, "confidence", "source", "functions"), written)
                chosen = others[next_rows(features[others], soft[others], ask)]
                names = declared.names
                questions = (
                    (texts.row[i], "", names[int(soft[i].argmax())], f"{soft[i].max():.3f}", texts.text[i])
                    for i in chosen
                )
                _write(draft / "ask.csv", ("row", declared.label, "guess", "confidence", "text"), questions)
                believed = dict(zip(votes.names, final.functions.accuracy.round(3).tolist(), strict=True))
                card = {
                    "task": declared.name,
                    "data_sha256": texts.file_sha256,
                    "gold_labels": len(answers),
                    "balance": balance,
                    "focal": focal,
                    "learned_on": len(learned),
                    "functions": believed,
                    **result,
                }
                (draft / "card.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n")
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False))
        return
    if measured:
        table = Table("", "accuracy", "macro-F1", "ECE", "F1 head", "F1 tail", box=None)
        keys = ("accuracy", "macro_f1", "ece", "head_f1", "tail_f1")
        first = [*alone, *(["unbalanced"] if balance or focal else [])]
        for name in [*first, "zero_gold", "gold_32", "written", "calibrated", "full"]:
            one = result[name]
            table.add_row(name, *(f"{one[key]:.3f} ± {one[f'{key}_sd']:.3f}" for key in keys))
        console.print(table)
    if answers:
        one = result["gold"]
        told = ", ".join(f"{key} {one[key]:.3f}" for key in ("precision", "recall", "f1", "kappa"))
        console.print(f"against {one['texts']} answers, not having seen them: {told}", highlight=False)
        one = result["calibration"]
        console.print(
            f"temperature {one['temperature']:.2f}; ECE of answers it was not fitted to {one['ece_before']:.3f} ->"
            f" {one['ece_after']:.3f}, loss {one['loss_before']:.3f} -> {one['loss_after']:.3f} nats",
            soft_wrap=True,
            highlight=False,
        )
    given_too = {
        "--balance": f"{balance:g}" if balance else None,
        "--focal": f"{focal:g}" if focal else None,
        "--model": model,
        "--generator": generator,
    }
    again = " ".join(
        [
            f"python -m training synthesize --data {data} --task {task}",
            *(f"{option} {value}" for option, value in given_too.items() if value is not None),
        ]
    )
    if out is None:
        console.print(f"next: {again} --out NEW_LABELS", soft_wrap=True, highlight=False)
        return
    each = ", ".join(f"{name} {count:,}" for name, count in result["labels"].items())
    console.print(f"{len(texts):,} labels ({each}) -> {out}/labels.csv", soft_wrap=True, highlight=False)
    step = f"fill in {declared.label} in {out}/ask.csv, then {again} --gold {out}/ask.csv --out NEW_LABELS"
    console.print(f"next: {step}", soft_wrap=True, highlight=False)


def _reader(
    declared: "Task", model: Path | None, generator: Path | None
) -> Callable[[Sequence[str]], "tuple[Votes, dict[str, Floats]]"]:
    """What says of texts what the functions vote, and the probabilities by name of methods that stand alone, too."""
    from training.labels.functions import vote
    from training.labels.voters import with_surest

    ways: dict[str, Callable[[Sequence[str]], Floats]] = {}
    # Torch takes seconds, and most never need it.
    if model is not None:
        from training.encoder.model import encode, load
        from training.encoder.words import load_words
        from training.labels.described import descriptions, nearness
        from training.labels.prompted import prompted, verbalisers

        encoder = load(model)
        described = encode(encoder, descriptions(declared))
        ways["described"] = lambda texts: nearness(encode(encoder, texts), described, declared.shares)
        if declared.prompt and (words := load_words(model, encoder)) is not None:
            # Refused before anything long begins.
            verbalisers(declared, encoder.tokenizer)
            ways["prompted"] = lambda texts: prompted(encoder, words, declared, texts)
    if generator is not None:
        from training.labels.generator import generated, load_generator

        writer = load_generator(generator)
        ways["generated"] = lambda texts: generated(writer, declared, texts)

    def read(texts: Sequence[str]) -> "tuple[Votes, dict[str, Floats]]":
        votes, alone = vote(declared, texts), {name: way(texts) for name, way in ways.items()}
        for name, soft in alone.items():
            votes = with_surest(votes, soft, [f"{name} {one}" for one in declared.names])
        return votes, alone

    return read


def check_labels(
    data: Annotated[Path, _DATA],
    task: Annotated[str, _TASK],
    out: Annotated[Path | None, typer.Option(help="New CSV of the labels that are probably wrong.")] = None,
    injected: Annotated[float, typer.Option(help="Share of noise put in to measure with; 0: none.")] = 0.2,
    seeds: Annotated[int, typer.Option(help="Of the noise.", min=1)] = 3,
    rows: Annotated[int, _ROWS] = 20_000,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Find labels that are probably wrong (confident learning), and measure how well that is found here."""
    import numpy as np

    from training.labels.noise import doubted, inject, true_classes
    from training.labels.student import vectoriser
    from training.labels.task import UNLABELLED, TaskError, read_task, read_texts
    from training.train_cli import refusals

    with refusals(), _progress() as progress:
        declared = read_task(task)
        if not 0 <= injected < 1:
            raise ValueError(f"--injected: must be from 0 to below 1, not {injected:g}")
        if out is not None and out.exists():
            raise FileExistsError(f"{out}: exists already; name a new file with --out")
        texts = read_texts(data, declared)
        labelled = np.flatnonzero(texts.label != UNLABELLED)
        if len(labelled) < _MEASURED:
            raise TaskError(f"{data}: {len(labelled)} rows have a label in {declared.label}, {_MEASURED} are needed")
        texts, classes = texts.take(_drawn(labelled, rows, 0)), len(declared.classes)
        if len(np.unique(texts.label)) < 2:
            raise TaskError(f"{data}: all labels in {declared.label} are the same, of which none can be doubted")
        bar = progress.add_task("checking", total=seeds * (injected > 0) + 1)
        features = _features(vectoriser(declared.language), texts.text)
        true = true_classes(features, texts.label, classes, 0)
        found = np.flatnonzero(doubted(true, texts.label))
        progress.advance(bar)
        runs = []
        for seed in range(seeds if injected else 0):
            one = inject(features, texts.label, classes, injected, seed)
            runs.append(asdict(one) | {"excess": one.excess})
            progress.advance(bar)
        result: dict[str, Any] = {"checked": len(texts), "suspects": len(found)}
        if runs:
            result["injected"] = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
            result["injected"] |= {f"{key}_sd": float(np.std([run[key] for run in runs])) for key in runs[0]}
        names = declared.names
        if out is not None:
            order = found[np.argsort(true[found, texts.label[found]], kind="stable")]
            others = np.where(np.eye(classes, dtype=np.bool_)[texts.label], -1.0, true).argmax(axis=1)
            lines = (
                (
                    texts.row[i],
                    names[texts.label[i]],
                    names[int(others[i])],
                    f"{1 - true[i, texts.label[i]]:.3f}",
                    texts.text[i],
                )
                for i in order
            )
            _write(out, ("row", declared.label, "probably", "confidence", "text"), lines)
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False))
        return
    console.print(f"{len(found):,} of {len(texts):,} labels are probably wrong", highlight=False)
    if runs:
        table = Table(f"{injected:.0%} noise put in", "mean", "sd", box=None)
        for key in runs[0]:
            table.add_row(key, f"{result['injected'][key]:.3f}", f"{result['injected'][f'{key}_sd']:.3f}")
        console.print(table)
    console.print(
        f"next: look at them in {out}" if out else "next: the same with --out SUSPECTS.csv, to look at them",
        soft_wrap=True,
        highlight=False,
    )


def _drawn(rows: "Ints", most: int, seed: int) -> "Ints":
    """At most so many of the rows, in an order drawn by seed."""
    import numpy as np

    return np.random.default_rng(seed).permutation(rows)[:most]


def _features(made: "TfidfVectorizer", texts: Sequence[str]) -> "csr_matrix":
    """What a student reads of texts (texts, features). Raises TaskError where they have too little in common."""
    from training.labels.task import TaskError

    try:
        return made.fit_transform(texts)
    except ValueError as error:
        told = f"{len(texts)} texts are too few or too unlike: no word is in {made.min_df} of them"
        raise TaskError(told) from error


def _labels(
    declared: "Task", texts: "Texts", soft: "Floats", answers: dict[int, int], votes: "Votes"
) -> Iterator[tuple[object, ...]]:
    """Each text's label, how sure it is, what it is from (gold, functions with the student, the student alone), and
    the functions that fired."""
    for i, row in enumerate(texts.row.tolist()):
        fired = [votes.names[j] for j in votes.fired[i].indices]
        source = "gold" if row in answers else "functions" if fired else "student"
        label = answers.get(row, int(soft[i].argmax()))
        sure = 1.0 if row in answers else soft[i].max()
        yield row, declared.classes[label].value, f"{sure:.4f}", source, "; ".join(fired)


def _write(path: Path, header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))
