"""The chart of a run: CPU per delivery and latency, by server and rate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import Results

COLOURS = {"marketfeed": "#d1495b", "floor": "#9aa5b1"}
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
    width = 0.85 / max(1, len(servers))
    spare = iter(OTHERS * 2)
    for at, server in enumerate(servers):
        colour = COLOURS.get(server) or next(spare)
        for axes, name in ((left, "micros"), (right, "p99")):
            for group, rate in enumerate(rates):
                result = results.fan_out(server, rate)
                value = None if result is None else getattr(result, name)
                if result is None or value is None:
                    continue
                bar = axes.bar(
                    group + at * width,
                    value,
                    width * 0.92,
                    color=colour,
                    hatch=None if result.keeps_up else "///",
                    edgecolor="white",
                    label=server,
                )
                axes.bar_label(bar, fmt="%.2g", fontsize=6, padding=1)
    for axes, title in (
        (left, "CPU of the server per delivery, us"),
        (right, "p99 from exchange to client, ms"),
    ):
        axes.set_title(title, fontsize=10)
        axes.set_yscale("log")
        middle = width * (len(servers) - 1) / 2
        axes.set_xticks([group + middle for group in range(len(rates))])
        axes.set_xticklabels([f"{rate:,}" for rate in rates])
        axes.set_xlabel("messages/s to each of 1,000 clients (hatched: does not keep up)")
        axes.spines[["top", "right"]].set_visible(False)
    handles = {}
    for axes in (left, right):
        handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=8, fontsize=8)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
    return True
