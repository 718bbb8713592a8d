"""Plans, what is drawn, the knee, and the reports."""

import itertools
import json
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loadtest.bench_rows import Row, write_rows
from loadtest.cli import app
from loadtest.client import schedule
from loadtest.plan import Phase, PlanError, read_plan
from loadtest.report import NoRun, compare_rows, phase_rows, read_run, write_comparison, write_report
from loadtest.run import Result, past_knee
from loadtest.tally import Tally, Times
from loadtest.traffic import Caller, Pools
from souk.types.v1 import types_pb2

_POOLS = Pools(
    [f"s{n}" for n in range(100)],
    [f"q{n}" for n in range(100)],
    [types_pb2.Item(id=f"i{n}", title="t", revision=7).SerializeToString() for n in range(100)],
)
_PHASE = Phase(name="soak", kind="steady", rate=50, seconds=10)


def _result(milliseconds: float, *, failed: int = 0, degraded: int = 0) -> Result:
    tally = Tally()
    for _ in range(100):
        tally.record(tally.latency, "search", milliseconds / 1000)
    tally.answered["search"] = 100
    tally.failed["search", "UNAVAILABLE"] = failed
    tally.degraded["search"] = degraded
    tally.samples = [("red mug", ["a", "b"]), ("red mug", ["b", "a"]), ("not judged", [])]
    return Result("soak", _PHASE, 10.0, tally, {})


def test_the_shipped_plan_draws_every_scenario_and_popular_ones_more() -> None:
    plan = read_plan()
    caller = Caller(_POOLS, plan, 1, "run")
    calls = [caller.draw() for _ in range(4000)]
    drawn = Counter(call.scenario for call in calls)
    assert set(drawn) == set(plan.scenarios)
    assert drawn["search"] / 4000 == pytest.approx(0.25, abs=0.03)
    queries = Counter(call.request.query for call in calls if call.method == "Search")
    assert queries["q0"] / queries.total() == pytest.approx(1 / sum(1 / n for n in range(1, 101)), abs=0.04)
    fresh = [call.request.shopper_id for call in calls if call.scenario == "cold"]
    assert len(fresh) == len(set(fresh))
    written = next(call for call in calls if call.scenario == "upsert").request.items[0]
    assert written.revision == 0
    assert written.HasField("stock")


def test_the_same_seed_draws_the_same() -> None:
    def ask(seed: int) -> list[bytes]:
        caller = Caller(_POOLS, read_plan(), seed, "run")
        calls = [caller.draw() for _ in range(200)]
        return [call.request.SerializeToString() for call in calls if call.scenario != "events"]

    assert ask(3) == ask(3) != ask(4)


def test_a_schedule_has_its_rate_and_a_ramp_grows() -> None:
    steady = list(schedule(_PHASE, 1.0, 0))
    assert len(steady) == pytest.approx(500, abs=70)
    assert len(list(schedule(_PHASE, 0.5, 0))) == pytest.approx(250, abs=50)
    gaps = [b - a for a, b in itertools.pairwise(schedule(_PHASE.model_copy(update={"kind": "constant"}), 1.0, 0))]
    assert gaps == pytest.approx([0.02] * len(gaps))
    ramp = list(schedule(_PHASE.model_copy(update={"kind": "ramp"}), 1.0, 0))
    assert len(ramp) == pytest.approx(250, abs=50)
    assert sum(due < 5 for due in ramp) == pytest.approx(62, abs=25)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("scenarios = {serach = 1}\nphases = []", "scenarios.serach"),
        ("[scenarios]\nsearch = 0\n", "scenarios.search"),
        ('[scenarios]\nsearch = 1\n[[phases]]\nname = "a"\nkind = "steady"\nseconds = 1', "rate must be given"),
        ('[scenarios]\nsearch = 1\n[[phases]]\nname = "a"\nkind = "closed"\nseconds = 1', "in_flight must be given"),
        ("[scenarios", "plan.toml"),
    ],
)
def test_a_wrong_plan_names_the_field(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "plan.toml").write_text(text)
    with pytest.raises(PlanError, match=named):
        read_plan(tmp_path / "plan.toml")


def test_the_knee_is_where_calls_are_lost_slow_or_degraded() -> None:
    first = _result(10)
    assert not past_knee(first, _result(45, failed=1, degraded=4))
    assert "not answered" in past_knee(first, _result(10, failed=5))
    assert "p99" in past_knee(first, _result(55))
    assert "degraded" in past_knee(first, _result(10, degraded=8))


def test_tallies_add_up() -> None:
    one, other = _result(10, failed=3).tally, _result(30, degraded=2).tally
    one.add(other)
    assert one.due == 203
    times = one.all_latency()
    assert times.count == 200
    assert times.at_least(0.02) == 100
    assert times.to_json()["p50"] == pytest.approx(10, rel=0.01)
    assert times.to_json()["max"] == pytest.approx(30, rel=0.01)
    assert Times().to_json() == {"count": 0}


def test_a_report_is_read_again_and_compared(tmp_path: Path) -> None:
    grades = {"red mug": {"a": 3}}
    runs = []
    for name, result in (("a", _result(10)), ("b", _result(20, failed=25))):
        run = {
            "made": "now", "machine": {"cores": 2}, "gateway": "here", "dataset": "d", "seed": 0, "clients": 1,
            "plan": {}, "phases": [result.to_json(grades)],
            "knees": [{"phase": "saturation", "rate": 30.0, "why": "<slow>"}],
            "seconds": [
                {"at": 1.0, "phase": "soak", "answered": 9, "failed": 1, "unsent": 0, "p50": 1.0, "p99": 2.0, "max": 3}
            ],
        }  # fmt: skip
        (tmp_path / name).mkdir()
        write_report(tmp_path / name, run)
        runs.append(read_run(tmp_path / name))
        assert (tmp_path / name / "report.png").stat().st_size > 10_000
    assert "&lt;slow&gt;" in (tmp_path / "a" / "report.html").read_text()
    # The first answer to a query counts.
    assert runs[0]["phases"][0]["quality"]["nDCG@10, unjudged as not relevant"] == 1.0
    assert phase_rows(runs[1])[0][-3] == "25"
    ratios = {row[0]: row[3] for row in compare_rows(*runs)}
    assert ratios["soak: p99, ms"] == "2.00"
    write_comparison(tmp_path, runs[0], runs[1], ("a", "b"))
    assert "b / a" in (tmp_path / "compare.html").read_text()


def test_other_reports_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NoRun, match="no report"):
        read_run(tmp_path)
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(NoRun, match="no phases"):
        read_run(tmp_path)


def test_a_report_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["run", "--dataset", str(tmp_path), "--out", str(tmp_path)])
    assert done.exit_code == 1
    assert "is there already" in done.output


def test_a_bench_keeps_its_rows_with_the_machine(tmp_path: Path) -> None:
    file = write_rows("x", [Row("a", 2.0, "ms", "b", 0.5, "<= 1 x", True)], tmp_path / "new")
    kept = json.loads(file.read_text())
    assert file.name == "bench-x.json"
    assert kept["machine"]["cores"] >= 1
    row = {"name": "a", "value": 2.0, "unit": "ms", "baseline": "b", "ratio": 0.5, "goal": "<= 1 x", "reached": True}
    assert kept["rows"] == [row]
