"""Run the bench: `make bench`, or `python -m benchmarks.run --quick --only storm`.

Prints every cell as it comes and the promises at the end. A full run also writes
`docs/benchmarks.md`, its chart and the raw figures; part of one writes beside the programs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from benchmarks import machine, report
from benchmarks.build import FOLDER, ROOT, build, node_package_version
from benchmarks.cells import Result, measure
from benchmarks.chart import draw
from benchmarks.scenarios import RATES, SCENARIOS, Scenario, is_possible, quick

FILES_NEEDED = 12_000  # open files: the storm needs 5,000 on either side
QUIET_LOAD = 0.5  # load average over one minute above which a run is warned of


def main() -> None:
    """Read the command line, run, report."""
    options = _options()
    signal.signal(signal.SIGTERM, _stop)  # so that what was started is ended
    build()
    _raise_file_limit()
    is_whole = not (options.quick or options.only)
    folder = Path(options.output) if options.output else ROOT / "docs" if is_whole else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    if load > QUIET_LOAD:
        print(f"The machine is not quiet (load {load:.1f}): trust nothing but the ratios.")

    scenarios = [SCENARIOS[name]() for name in options.only or SCENARIOS]
    if options.quick:
        scenarios = [quick(scenario) for scenario in scenarios]
    started = time.monotonic()
    results = report.Results(result for each in scenarios for result in _run(each))
    facts = _facts(time.monotonic() - started)
    _write(folder, results, facts)

    print()
    print(report.aligned(report.fan_out_table(results, RATES)))
    print()
    print(report.aligned(report.redis_table(results)))
    print()
    print(report.aligned(report.spread_table(results)))
    print()
    print(report.aligned(report.promise_table(results)))
    print(f"\n{folder / 'benchmarks.md'}, {(time.monotonic() - started) / 60:.1f} minutes")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two seconds a cell: does it run?")
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="one scenario; repeat")
    parser.add_argument("--output", help="folder for the report")
    return parser.parse_args()


def _stop(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)


def _raise_file_limit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < FILES_NEEDED:
        print(f"Only {hard} open files are allowed; the bench needs {FILES_NEEDED} (ulimit -Hn).")


def _run(scenario: Scenario) -> list[Result]:
    """Run the cells of a scenario, telling each."""
    print(f"\n{scenario.name}", flush=True)
    results = []
    for cell in scenario.cells:
        if not is_possible(cell):
            print(f"  {cell.name:34} not on this machine", flush=True)
            continue
        result = measure(cell)
        results.append(result)
        print(f"  {cell.name:34} {_line(result)}", flush=True)
    return results


def _line(result: Result) -> str:
    if result.fault:
        return f"no figure: {result.fault}"
    if result.cell.measures_memory_from:
        return f"{result.memory_per_client / 1000:.1f} KB per client"
    if result.cell.is_storm:
        return f"all have their snapshot after {result.all_ready / 1000:.2f} s"
    said = f"{result.delivered:11,.0f}/s  CPU {result.cpu:5.1f} %  {result.micros or 0:7.2f} us"
    said += f"  p50 {result.p50 or 0:7.2f}  p99 {result.p99 or 0:7.2f} ms"
    if result.probe is not None:
        said += f"  snapshot p99 {result.probe['p99']:.2f} ms"
    if result.answers is not None:
        said += f"  answers {result.answers}"
    if result.bytes_per_message is not None:
        said += f"  {result.bytes_per_message:.0f} bytes a message"
    return "  ".join([said, *report.remarks(result)])


def _facts(seconds: float) -> dict[str, str]:
    facts = machine.describe()
    if version := node_package_version():
        facts["ws"] = version
    today = datetime.now(UTC).date().isoformat()
    return facts | {"run of": f"{today}, {seconds / 60:.0f} minutes"}


def _write(folder: Path, results: report.Results, facts: dict[str, str]) -> None:
    servers = [row[0] for row in report.fan_out_table(results, RATES)[1:]]
    has_chart = draw(results, servers, RATES, folder / "benchmarks.svg")
    if not has_chart:
        print("matplotlib is missing: no chart")
    text = report.document(results, facts, RATES, "benchmarks.svg")
    (folder / "benchmarks.md").write_text(text)
    raw = {"machine": facts, "cells": [result.as_json() for result in results.all]}
    (folder / "benchmarks.json").write_text(json.dumps(raw, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
