"""The figures as Markdown, each target with whether it was met."""

from collections.abc import Mapping
from typing import Any

MEDIAN_MS, P99_MS, RATIO, MEMORY_MB = 2.0, 6.0, 0.60, 120.0


def markdown(whole: Mapping[str, Any]) -> str:
    found, plan = whole["results"], whole["plan"]
    blocks = [
        _machine(whole),
        _targets(found, plan),
        _overhead(found["overhead"], plan),
        _rates(found["rates"], plan),
        _real(found["real_engine"]),
        _memory(found["memory"]),
        _audit(found["audit"]),
    ]
    return "\n\n".join(blocks) + "\n"


def ratio(rates: Mapping[str, Any], connections: str) -> float:
    """Requests/s through the gateway, as a part of the bare pass-through's."""
    through, bare = (rates[name][connections]["per_second"] for name in ("process, stub engine", "pass-through"))
    return float(through / bare)


def _machine(whole: Mapping[str, Any]) -> str:
    m = whole["machine"]
    libraries = ", ".join(f"{name} {number}" for name, number in m["libraries"].items())
    return (
        f"Measured {whole['date']} with `{m['command']}` on {m['cores']} cores of {m['cpu']}, {m['memory_gb']} GB, "
        f"{m['system']}, Python {m['python']} ({libraries}). All processes on this one machine, over loopback, none "
        f"pinned to a core. Load average {m['load_at_start']} at the start, {m['load_at_end']} at the end."
    )


def _targets(found: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    rows = []
    for name, words in (("first_token_ms", "first token"), ("request_ms", "whole request")):
        more = found["overhead"][name]["added"]
        at = f"added to the {words} at {plan['rate']:g} requests/s"
        rows.append(
            (f"{at}, median", f"at most {MEDIAN_MS:g} ms", f"{more['median']:.2f} ms", more["median"] <= MEDIAN_MS)
        )
        rows.append((f"{at}, p99", f"at most {P99_MS:g} ms", f"{more['p99']:.2f} ms", more["p99"] <= P99_MS))
    for connections in found["rates"]["pass-through"]:
        part = ratio(found["rates"], connections)
        what = f"requests/s against the pass-through, {_connections(connections)}"
        rows.append((what, f"at least {RATIO:.0%}", f"{part:.0%}", part >= RATIO))
    rss = found["memory"]["after_mb"]["rss"]
    what = f"resident memory after {found['memory']['requests']} requests"
    rows.append((what, f"at most {MEMORY_MB:g} MB", f"{rss:.0f} MB", rss <= MEMORY_MB))
    return table("Target | asked | measured |", [[*row[:3], "met" if row[3] else "missed"] for row in rows])


def _overhead(part: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    rows = []
    for name, words in (("first_token_ms", "First token"), ("request_ms", "Whole request")):
        for side in ("direct", "gateway"):
            cell = part[name][side]
            rows.append([words, side, cell["samples"], f"{cell['median']:.2f}", f"{cell['p99']:.2f}"])
        rows.append([words, "added", "", *(f"{part[name]['added'][at]:.2f}" for at in ("median", "p99"))])
    late = max(side["p99"] for side in part["started_late_ms"].values())
    about = (
        f"Time in ms at {plan['rate']:g} requests/s, open loop, timed from when each request was due. The stub engine "
        f"streams {plan['tokens']} tokens, {plan['first_ms']:g} ms to the first, {plan['pace_ms']:g} ms between. "
        f"The load generator was at most {late:.1f} ms late (p99). Errors: {_errors(part['errors'].values())}."
    )
    return f"{about}\n\n" + table("What | asked | requests | median | p99", rows)


def _rates(part: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    counts = list(part["pass-through"])
    rows = [
        [name, *(f"{c['per_second']:,.0f} ({c['median_ms']:.1f} / {c['p99_ms']:.1f})" for c in cells.values())]
        for name, cells in part.items()
    ]
    rows.append(["process, stub engine, of pass-through", *(f"{ratio(part, c):.0%}" for c in counts)])
    errors = _errors([cell["errors"] for cells in part.values() for cell in cells.values()])
    about = (
        f"Requests/s (and median / p99 in ms), closed loop, best of {plan['rounds']} rounds of "
        f"{plan['round_seconds']:g} s. The stub engine answers {plan['few_tokens']} tokens at once. Errors: {errors}."
    )
    spent = [[name, *(f"{cell['cpu_ms']:.2f}" for cell in cells.values())] for name, cells in part.items()]
    head = " | ".join(["", *map(_connections, counts)])
    processor = "Processor time of the server for one request, in ms, all its threads together."
    return f"{about}\n\n{table(head, rows)}\n\n{processor}\n\n{table(head, spent)}"


def _real(part: Mapping[str, Any] | None) -> str:
    if part is None:
        return "The embedded engine was not measured: its small model is not on this machine."
    rows = [
        [words, *(f"{part[name][side]['median']:.1f}" for side in ("direct", "gateway", "added"))]
        for name, words in (("first_token_ms", "First token"), ("request_ms", "Whole request"))
    ]
    times = part["request_ms"]["gateway"]["samples"]
    about = (
        f"The embedded engine with {part['model']}, {times} requests of 32 tokens a side, one after the other, "
        f"median in ms. Errors: {_errors(part['errors'].values())}."
    )
    return f"{about}\n\n" + table("What | direct | gateway | added", rows)


def _memory(part: Mapping[str, Any]) -> str:
    moments = (
        ("after start", "at_start_mb"),
        (f"after {part['requests']} requests", "after_mb"),
        ("at the end of the run", "at_end_mb"),
    )
    names = list(part["after_mb"])
    rows = [[words, *(f"{part[moment][name]:.0f}" for name in names)] for words, moment in moments]
    return "Memory of the gateway process, without models, in MB.\n\n" + table(" | ".join(["", *names]), rows)


def _audit(part: Mapping[str, Any]) -> str:
    rows = [
        ["durable records/s, 1 writer", f"{part['writers_1']:,.0f}"],
        ["durable records/s, 64 writers", f"{part['writers_64']:,.0f}"],
        ["one durable write of this disk, median", f"{part['disk_ms']['median']:.2f} ms"],
        ["one durable write of this disk, p99", f"{part['disk_ms']['p99']:.2f} ms"],
    ]
    return table("Audit log | ", rows)


def _connections(count: str) -> str:
    return f"{count} connection" + ("s" if count != "1" else "")


def _errors(counts: Any) -> str:
    found = [f"{number} x {name}" for each in counts for name, number in each.items()]
    return ", ".join(found) or "none"


def table(head: str, rows: list[list[Any]]) -> str:
    names = head.split("|")
    lines = ["| " + " | ".join(name.strip() for name in names) + " |", "|" + "---|" * len(names)]
    return "\n".join([*lines, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)])
