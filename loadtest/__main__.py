"""`python -m loadtest run` and `compare`; the benches have names of their own (`python -m loadtest.embedder_bench`)."""

from loadtest.cli import app

app(prog_name="python -m loadtest")
