"""All scenarios, and what was recorded of each."""

import json
from pathlib import Path

from tests.traces.switch_scenarios import SCENARIOS as SWITCH
from tests.traces.trace import Trace, seeded
from tests.traces.transport_scenarios import SCENARIOS as TRANSPORT

RECORDED = Path(__file__).with_name("recorded.json")
SCENARIOS = {scenario.__name__: scenario for scenario in (*TRANSPORT, *SWITCH)}

Result = list[str | int]  # the hash of a trace, and its lines


def run(name: str) -> Trace:
    """The trace of a scenario."""
    trace = Trace()
    with seeded(1):
        SCENARIOS[name](trace)
    return trace


def result(name: str) -> Result:
    trace = run(name)
    return [trace.sha256, len(trace.lines)]


def recorded() -> dict[str, Result]:
    return json.loads(RECORDED.read_text())


def record(results: dict[str, Result]) -> None:
    lines = (f"  {json.dumps(name)}: {json.dumps(each)}" for name, each in results.items())
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
