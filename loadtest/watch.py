"""What a local stack uses while it is under load: processor and memory of each process, and hits of its caches."""

import json
import os
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
from prometheus_client.parser import text_string_to_metric_families

_METRICS_ABOVE = 1000  # `python -m services`: the metrics port lies so far above the other.
_CACHE = {"souk_cache_hits_total": "hits", "souk_cache_misses_total": "misses"}


class Watch:
    """Watches the processes that the stack.json of a stack's home names, their Redis, and the processes here.

    Raises FileNotFoundError where no stack runs in that home.
    """

    def __init__(self, home: Path, clients: list[int]) -> None:
        state = json.loads((home / "stack.json").read_text())
        self._metrics = [
            f"http://127.0.0.1:{int(one['address'].rsplit(':', 1)[1]) + _METRICS_ABOVE}/metrics"
            for one in state.values()
        ]
        self._processes = {name: psutil.Process(one["pid"]) for name, one in state.items()}
        known = {process.pid for process in self._processes.values()}
        supervisor = next(iter(self._processes.values())).parent()
        for child in supervisor.children() if supervisor else ():
            if child.pid not in known:
                self._processes["redis" if "valkey" in child.name() else child.name()] = child
        for number, pid in enumerate([os.getpid(), *clients]):
            self._processes[f"client {number}" if number else "load test"] = psutil.Process(pid)

    def begin(self) -> None:
        """From here on it counts."""
        self._began = time.monotonic()
        self._cpu = {name: self._seconds(process) for name, process in self._processes.items()}
        self._memory: Counter[str] = Counter()
        self._cache = self._caches()
        self.look()

    def look(self) -> None:
        """Notes how much memory is used now."""
        for name, process in self._processes.items():
            try:
                self._memory[name] = max(self._memory[name], process.memory_info().rss)
            except psutil.NoSuchProcess:
                continue

    def end(self) -> dict[str, Any]:
        """Since `begin`: cores and the most memory (MiB) of each process, hits and misses by cache and level."""
        self.look()
        seconds = time.monotonic() - self._began
        cache = self._caches() - self._cache
        found: dict[str, dict[str, Any]] = {}
        for (name, level, kind), count in cache.items():
            found.setdefault(f"{name}, {level}", {"hits": 0, "misses": 0})[kind] = count
        for one in found.values():
            one["ratio"] = one["hits"] / (one["hits"] + one["misses"])
        processes = {
            # One that died and was started again has no time to compare with.
            name: {
                "cores": max(0.0, self._seconds(process) - self._cpu[name]) / seconds,
                "mib": self._memory[name] / 2**20,
            }
            for name, process in self._processes.items()
        }
        return {"processes": processes, "caches": dict(sorted(found.items()))}

    @staticmethod
    def _seconds(process: psutil.Process) -> float:
        try:
            used = process.cpu_times()
        except psutil.NoSuchProcess:
            return 0.0
        return float(used.user + used.system)

    def _caches(self) -> Counter[tuple[str, str, str]]:
        counted: Counter[tuple[str, str, str]] = Counter()
        for address in self._metrics:
            try:
                with urllib.request.urlopen(address, timeout=2) as page:
                    text = page.read().decode()
            except OSError:
                continue
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    if kind := _CACHE.get(sample.name):
                        counted[sample.labels["cache"], sample.labels["level"], kind] += round(sample.value)
        return counted
