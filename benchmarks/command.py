"""`goldfish bench`, and `python -m benchmarks` in a clone: this project beside its peers in one interleaved run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks.sections import SECTIONS
from goldfish.cli.commands import Choice
from goldfish.errors import ConfigError, nearest

ROOT = Path(__file__).parents[1]
DEVICES = ("cpu", "cuda")


def bench(arguments: Sequence[str]) -> None:
    """Measure and print, or render the page from the results. Raises ConfigError for bad input."""
    with command.make_context("goldfish bench", list(arguments)) as context:
        command.invoke(context)


@click.command(epilog=f"Sections: {', '.join(SECTIONS)}.", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--device", type=Choice(DEVICES), default="cpu", show_default=True, help="What to measure on.")
@click.option("--only", metavar="A,B", help="Measure these sections only.")
@click.option("--quick", is_flag=True, help="Measure everything at smaller sizes, in a few minutes.")
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True, help="The number of torch's threads.")
@click.option("--update-results", is_flag=True, help="Write into benchmarks/results/<device>.")
@click.option("--render", is_flag=True, help="Write docs/performance_table.md from the results, and end.")
def command(device: str, only: str | None, quick: bool, threads: int, update_results: bool, render: bool) -> None:
    """Time this project beside its peers in one interleaved run, as ratios.

    Processes that it starts find goldfish and benchmarks in the clone, wherever they run.
    """
    names = only.split(",") if only else list(SECTIONS)
    for name in names:
        if name not in SECTIONS:
            raise ConfigError(f"--only={name}: {nearest(name, SECTIONS)}")
    if quick and update_results:
        raise ConfigError("--quick: cannot go with --update-results")
    from benchmarks import run

    places = [str(ROOT / "src"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(places)
    if render:
        print("Written: " + ", ".join(str(file) for file in run.render()))
    else:
        run.run(names, device=device, threads=threads, quick=quick, update=update_results)
