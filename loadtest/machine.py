"""What a measurement ran on."""

import os
import platform
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Processor, cores, system, Python, and the load of the last minute, which tells whether others were at work."""
    model = platform.processor()
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        names = [line.split(":", 1)[1].strip() for line in facts.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load of the last minute": round(os.getloadavg()[0], 2),
    }
