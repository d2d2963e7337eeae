"""Runs all parts after each other and writes what came out. Progress goes to stderr."""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import machine, parts, processes, report

RESULTS = processes.ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Plan:
    """How long each part takes: seconds a turn, turns a side, and counts of requests."""

    rate: float = 100
    turns: int = 4
    turn_seconds: float = 5
    rounds: int = 2
    round_seconds: float = 4
    requests: int = 2000
    real_requests: int = 10
    audit_seconds: float = 3
    tokens: int = 32
    first_ms: float = 20
    pace_ms: float = 2
    few_tokens: int = 4


QUICK = Plan(turns=1, turn_seconds=2, rounds=1, round_seconds=1, real_requests=2, audit_seconds=1)


def measured(plan: Plan, folder: Path) -> dict[str, Any]:
    """Every part, by name."""
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        enter = stack.enter_context
        _say("audit log and disk")
        found["audit"] = parts.audit(folder / "audit", plan.audit_seconds)
        load = enter(processes.load())
        slow, fast = (
            enter(processes.stub(plan.tokens, plan.first_ms, plan.pace_ms)),
            enter(processes.stub(plan.few_tokens)),
        )
        bare = enter(processes.passthrough(fast))
        busy = enter(processes.gateway(folder / "busy", fast))
        _say(f"memory over {plan.requests} requests")
        found["memory"] = parts.memory(load, busy, plan.requests)
        steady = enter(processes.gateway(folder / "steady", slow))
        _say(f"added time at {plan.rate:g} requests/s, {plan.turns} turns of {plan.turn_seconds:g} s a side")
        found["overhead"] = parts.overhead(load, slow, steady, plan.rate, plan.turns, plan.turn_seconds)
        _say(f"requests/s, {plan.rounds} rounds of {plan.round_seconds:g} s")
        found["rates"] = parts.rates(load, bare, busy, plan.rounds, plan.round_seconds)
        found["memory"]["at_end_mb"] = busy.memory()
        _say("the embedded engine with a real model")
        found["real_engine"] = parts.real_engine(load, steady, plan.real_requests)
    return found


def _say(text: str) -> None:
    print(f"measuring: {text}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description="Measures what the gateway adds.")
    parser.add_argument("--quick", action="store_true", help="a short run, to see that it works")
    given = parser.parse_args(arguments)
    plan, began = QUICK if given.quick else Plan(), datetime.now(UTC)
    # Not the system's folder for temporary files: that may be in memory, where nothing is durable.
    scratch = RESULTS / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        facts = machine.facts(["benchmarks/run.py", *arguments])
        results = measured(plan, Path(folder))
    facts["load_at_end"] = machine.busy()
    whole = {"date": began.isoformat(timespec="seconds"), "machine": facts, "plan": vars(plan), "results": results}
    name = began.strftime("%Y-%m-%dT%H%M%SZ") + ("-quick" if given.quick else "")
    (RESULTS / f"{name}.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    text = report.markdown(whole)
    if not given.quick:
        (RESULTS / "latest.md").write_text(text, encoding="utf-8")
    print(text)
