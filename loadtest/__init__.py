"""Load and measurement: open-loop traffic against the running services, and benchmarks of single parts."""
