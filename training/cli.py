"""`python -m training`: everything offline, one sub-command a folder."""

import typer

from training.bundle.cli import bundle
from training.data.clean.cli import clean
from training.data.cli import app as data
from training.data.cli import export_events, generate
from training.data.quality.cli import quality
from training.encoder.cli import app as encoder
from training.evaluate.cli import app as evaluate
from training.labels.cli import check_labels, synthesize
from training.labels.pairs_cli import synthesize_pairs
from training.privacy.cli import app as privacy
from training.runs.cli import app as runs
from training.train_cli import app as train
from training.tune.cli import app as tune

app = typer.Typer(help="Souk's offline side: data, models, bundles.", no_args_is_help=True)
app.command()(generate)
app.command()(export_events)
app.command()(clean)
app.command()(quality)
app.command()(synthesize)
app.command("check-labels")(check_labels)
app.command("synthesize-pairs")(synthesize_pairs)
app.command()(bundle)
app.add_typer(data, name="data")
app.add_typer(encoder, name="encoder")
app.add_typer(train, name="train")
app.add_typer(tune, name="tune")
app.add_typer(evaluate, name="evaluate")
app.add_typer(privacy, name="privacy")
app.add_typer(runs, name="runs")
