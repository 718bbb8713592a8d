"""Load and measurement: open-loop traffic against the running services, and benchmarks of single parts."""

# Before NumPy is loaded: it tells BLAS how many threads it may have, and to let them sleep.
import services as services
