"""The services. Limits the libraries that count the machine's processors for themselves, before any is imported."""

import os

from services.runtime.threads import cpu_limit, limit_libraries

limit_libraries(cpu_limit())
# ONNX Runtime reports its use and the models to its makers, from import on, unless it is told not to before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
