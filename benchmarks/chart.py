"""The chart of a run: CPU per delivery and latency, by server and rate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import Results
from benchmarks.scenarios import SHARED

COLOURS = {"marketfeed": "#d1495b", "floor": "#8f9aa6", f"floor / {SHARED}": "#c5ccd3"}
WIDTH = 0.105  # of a bar; the groups are 1 apart
OTHERS = ("#2e4057", "#00798c", "#66a182", "#edae49", "#8d6a9f", "#b08968")


def draw(results: Results, servers: Sequence[str], rates: Sequence[int], file: Path) -> bool:
    """Draw grouped bars into `file`; return False where matplotlib is missing."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 - the bench works without it
    except ImportError:
        return False
    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    mpl.rcParams["svg.hashsalt"] = "marketfeed"  # the same figures give the same file
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    spare = iter(OTHERS * 2)
    colours = {server: COLOURS.get(server) or next(spare) for server in servers}
    for axes, name in ((left, "micros"), (right, "p99")):
        for group, rate in enumerate(rates):
            found = [(server, results.fan_out(server, rate)) for server in servers]
            shown = [
                (server, result)
                for server, result in found
                if result is not None and getattr(result, name) is not None
            ]
            for at, (server, result) in enumerate(shown):
                bar = axes.bar(
                    group + (at - (len(shown) - 1) / 2) * WIDTH,
                    getattr(result, name),
                    WIDTH * 0.9,
                    color=colours[server],
                    hatch=None if result.keeps_up else "////",
                    edgecolor="white",
                )
                axes.bar_label(bar, fmt="%.2g", fontsize=6, padding=1)
    for axes, title in (
        (left, "CPU of the server per delivery, us"),
        (right, "p99 from exchange to client, ms"),
    ):
        axes.set_title(title, fontsize=10)
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.1)  # us, ms: a bar's length means the same in every run
        axes.set_xticks(range(len(rates)), [f"{rate:,}" for rate in rates])
        axes.set_xlabel("messages/s to each of 1,000 clients (hatched: does not keep up)")
        axes.spines[["top", "right"]].set_visible(False)
    keys = [plt.Rectangle((0, 0), 1, 1, color=colours[server], label=server) for server in servers]
    figure.legend(handles=keys, loc="outside lower center", ncols=5, fontsize=8)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
    return True
