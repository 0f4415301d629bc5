"""The speed of the gateway beside a bare relay: `python -m benchmarks.gateway`.

It drives the comparison harness that stands beside the checkout (`compare.py`, not part of this
repository), which pins each server to one core, loads it from another, and counts the CPU time of
its whole process tree. All targets run in the same rounds on the same Python, so that their ratios
hold on a busy machine as well; a second of CPU time is the unit, not one of the clock.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from benchmarks.figures import Figure, print_figures

ROOT = Path(__file__).resolve().parents[1]
HARNESS = ROOT.parent / "shared" / "perf"
RELAY, OURS, TRANSLATED, DIRECT = "py-asgi-aiohttp", "ours", "translated", "direct"
SCENARIOS = ("chat-1", "chat-32", "paced-32", "burst-32")
SERVER = "{python} -m benchmarks.server --port {{port}} --folder {folder}/{name}"

Row = Mapping[str, Any]
Rows = Mapping[str, Mapping[str, list[Row]]]


@click.command()
@click.option(
    "--harness",
    type=click.Path(path_type=Path),
    envvar="PERF_HARNESS",
    default=HARNESS,
    help="Folder that holds compare.py; else the variable PERF_HARNESS, else ../shared/perf.",
)
@click.option("--also", default="", help="More targets of the harness: py-asgi-raw,nginx")
@click.option("--scenarios", default=",".join(SCENARIOS), show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--seconds", default=4.0, show_default=True, help="Length of one measurement.")
@click.option("--base-port", default=18200, show_default=True)
@click.option("--tables", is_flag=True, help="Print the harness's own tables as well.")
def main(
    harness: Path,
    also: str,
    scenarios: str,
    rounds: int,
    seconds: float,
    base_port: int,
    *,
    tables: bool,
) -> None:
    """Measure the gateway beside a bare relay; the exit code is 1 if a target is missed."""
    compare = harness / "compare.py"
    if not compare.is_file():
        raise click.ClickException(
            f"there is no {compare}: give the folder of the comparison harness with --harness or "
            "PERF_HARNESS. It is not part of this repository."
        )
    with tempfile.TemporaryDirectory(prefix="agent-server-bench-") as folder:
        results = Path(folder) / "results.json"
        targets = ",".join(filter(None, (DIRECT, RELAY, also)))
        words = [sys.executable, str(compare), "--targets", targets]
        words += ["--scenarios", scenarios, "--rounds", str(rounds), "--seconds", str(seconds)]
        words += ["--base-port", str(base_port), "--json", str(results)]
        for name, rest in (
            (OURS, "--base-url {upstream}/v1"),
            (TRANSLATED, "--provider anthropic --base-url {upstream}"),
        ):
            start = SERVER.format(python=sys.executable, folder=folder, name=name)
            words += ["--cmd", f"{name}=PYTHONPATH={ROOT} {start} {rest}"]
        _run(words, Path(folder), quiet=not tables)
        measured = json.loads(results.read_text())
    report(measured, scenarios.split(","))


def report(measured: Mapping[str, Any], scenarios: list[str]) -> None:
    """Print what was measured and what was asked for; exit with 1 if a target is missed."""
    for name, target in measured.items():
        if target["dead"]:
            raise click.ClickException(f"{name} did not start: {target['dead']}")
    rows: Rows = {name: target["rows"] for name, target in measured.items()}
    click.echo(f"\n{_load_line()}\n")
    click.echo(speed_table(rows, scenarios))
    figures = [figure for figure in figures_of(rows) if figure.name.split()[0] in scenarios]
    lost = sum(_lost(row) for name in (OURS, TRANSLATED) for row in _all_rows(rows.get(name, {})))
    figures.append(Figure("requests without a right answer", lost, 0, at_most=True))
    print_figures(figures)


def figures_of(rows: Rows) -> list[Figure]:
    """The figures that have a target, from the rows of each target and scenario."""

    def ratio(scenario: str) -> float | None:
        ours, relay = _per_cpu(rows, OURS, scenario), _per_cpu(rows, RELAY, scenario)
        return ours / relay if ours and relay else None

    ours, direct = _latency(rows, OURS, "chat-1"), _latency(rows, DIRECT, "chat-1")
    added = ours - direct if ours is not None and direct is not None else None
    return [
        Figure(f"chat-32 JSON requests, x {RELAY}", ratio("chat-32"), 0.6),
        Figure(f"paced-32 events, x {RELAY}", ratio("paced-32"), 0.8),
        Figure(f"burst-32 events, x {RELAY}", ratio("burst-32"), 0.65),
        Figure("chat-1 added p50, ms", added, 3.0, at_most=True),
        Figure(
            "paced-32 translated events / CPU-s", _per_cpu(rows, TRANSLATED, "paced-32"), 5000.0
        ),
    ]


def speed_table(rows: Rows, scenarios: list[str]) -> str:
    """Answers or events for a second of CPU time, of each target in each scenario."""
    lines = ["| / CPU-s | " + " | ".join(scenarios) + " |", "|---" * (len(scenarios) + 1) + "|"]
    for name in rows:
        if name != DIRECT:
            cells = (_cell(_per_cpu(rows, name, scenario)) for scenario in scenarios)
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _per_cpu(rows: Rows, name: str, scenario: str) -> float | None:
    """The median over the rounds of requests, or events of a stream, for a CPU second."""
    key = "ok" if scenario.startswith("chat") else "events"
    return _median(rows, name, scenario, lambda row: row[key] / row["cpu"] if row["cpu"] else 0)


def _latency(rows: Rows, name: str, scenario: str) -> float | None:
    return _median(rows, name, scenario, lambda row: float(row["lat"]["p50"]))


def _median(rows: Rows, name: str, scenario: str, of: Callable[[Row], float]) -> float | None:
    found = rows.get(name, {}).get(scenario, [])
    return statistics.median(map(of, found)) if found else None


def _lost(row: Row) -> int:
    return int(row["errors"]) + int(row["unfinished"])


def _all_rows(scenarios: Mapping[str, list[Row]]) -> list[Row]:
    return [row for rows in scenarios.values() for row in rows]


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _load_line() -> str:
    one, five, _ = os.getloadavg()
    return f"Load of the machine: {one:.1f} (1 min), {five:.1f} (5 min), {os.cpu_count()} cores."


def _run(words: list[str], folder: Path, *, quiet: bool) -> None:
    environment = {**os.environ, "PERF_DIR": str(folder), "RELAY_PYTHON": sys.executable}  # noqa: TID251
    shown = subprocess.DEVNULL if quiet else None
    finished = subprocess.run(  # noqa: S603 - our own words
        words, env=environment, stdout=shown, check=False, cwd=folder
    )
    if finished.returncode:
        raise click.ClickException(f"the harness ended with {finished.returncode}")


if __name__ == "__main__":
    main()
