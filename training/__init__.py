"""The offline side: data, models, bundles and their evaluation. Imports souk and services.domain alone."""

import os

# Torch's threads spin while they wait for each other. Where something else wants the processors, that costs up to ten
# times the time; asleep they cost nothing measurable. Read when torch is loaded, so it is said before.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# ONNX Runtime reports its use and the models to its makers, from import on, unless it is told not to before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
