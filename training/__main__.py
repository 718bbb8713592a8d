"""Runs the offline command line."""

from training.cli import app

app(prog_name="python -m training")
