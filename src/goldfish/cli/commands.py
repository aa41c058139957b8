"""The commands and their options; each imports what it needs when it is run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import goldfish
from goldfish.bounds import between
from goldfish.cli.options import choice, parsed
from goldfish.errors import ConfigError, nearest
from goldfish.signatures import Parameter

if TYPE_CHECKING:
    from goldfish.sweep.run import Rerun

HELP = """\
How far back can a recurrent network remember, and why does it forget?

  goldfish train [overrides]              train one run and record it
  goldfish train -m [overrides]           train every combination: cell=rnn,lstm seed=0,1 task.length=10,20
  goldfish reproduce <experiment> …       train what an experiment lacks, then its table and figures
  goldfish figures <experiment> …         draw an experiment's figures again from its table
  goldfish export --to runs.csv|.parquet  every recorded run as one table
  goldfish status                         what is recorded: solved, unsolved, diverged, failed, stale
  goldfish ui [experiment]                open the recorded runs in the MLflow UI
  goldfish bench                          time this project beside its peers, as ratios

goldfish <command> --help explains one command, goldfish --version tells the version.
Shell completion: eval "$(goldfish train -sc install=bash)"
"""
SCALES = ("smoke", "cpu", "gpu")
COMPLETION = ("-sc", "--shell-completion")


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. Raises ConfigError for bad input."""
    name, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if name in ("-h", "--help"):
        print(HELP, end="")
        return 0
    if name in ("-V", "--version"):
        print(f"goldfish {goldfish.__version__}")
        return 0
    if name in COMPLETION or (name == "train" and any(flag in rest for flag in COMPLETION)):
        from goldfish.cli.completion import complete

        return complete([item for item in arguments if item not in ("train", *COMPLETION)])
    if name not in COMMANDS:
        raise ConfigError(f"{name}: unknown command; {nearest(name, [*COMMANDS, '--help', '--version'])}")
    return COMMANDS[name](rest)


def train(arguments: Sequence[str]) -> int:
    """One run, or a sweep with -m."""
    from goldfish.cli.train import train
    from goldfish.sweep.launch import FailedRunsError

    try:
        train(arguments)
    except FailedRunsError as error:
        print(f"goldfish: {error}", file=sys.stderr)
        return 1
    return 0


def reproduce(arguments: Sequence[str]) -> int:
    """Train what experiments lack, then write their tables and figures."""
    about = (
        "Train what an experiment lacks, then write its table and figures. Where experiment.yaml has a select, trials "
        "with seeds of their own come first and choose on validation, for example the learning rate."
    )
    parser = _parser("reproduce", about)
    _experiments(parser)
    parser.add_argument("--update-results", action="store_true", help="copy them into experiments/<name>/results")
    parser.add_argument("--rerun", default="missing", metavar="missing|stale|all", help="runs to train (missing)")
    args = parsed(parser, arguments)
    _check_experiments(args)
    from goldfish.sweep.launch import RERUN

    rerun = cast("Rerun", choice("--rerun", args.rerun, RERUN))
    from goldfish.cli.reproduce import reproduce

    return reproduce(args.experiments, scale=args.scale, rerun=rerun, update_results=args.update_results)


def figures(arguments: Sequence[str]) -> int:
    """Draw experiments' figures from their tables."""
    parser = _parser("figures", "Draw an experiment's figures from its table: no training, no store.")
    _experiments(parser)
    args = parsed(parser, arguments)
    _check_experiments(args)
    from goldfish.cli.reproduce import redraw

    redraw(args.experiments, scale=args.scale)
    return 0


def export(arguments: Sequence[str]) -> int:
    """Write every recorded run into one table."""
    parser = _parser("export", "Write every recorded run into one table.")
    parser.add_argument("--to", metavar="runs.csv|runs.parquet", help="the file to write")
    parser.add_argument("--experiment", help="the runs of one MLflow experiment only")
    args = parsed(parser, arguments)
    if args.to is None:
        raise ConfigError("--to: expected a file, runs.csv or runs.parquet")
    from goldfish.tracking.export import export
    from goldfish.tracking.store import Store

    table = export(Store(), Path(args.to), args.experiment)
    print(f"{args.to}: {len(table)} runs")
    return 0


def status(arguments: Sequence[str]) -> int:
    """Count what is recorded."""
    parser = _parser("status", "Count the recorded runs of every experiment by outcome, and those of older code.")
    parsed(parser, arguments)
    from goldfish.cli.status import status

    print(status())
    return 0


def ui(arguments: Sequence[str]) -> int:
    """Open the MLflow UI."""
    parser = _parser("ui", "Start the MLflow UI on this machine and print the link into the prepared view.")
    parser.add_argument("experiment", nargs="?", help="the MLflow experiment to open")
    parser.add_argument("--port", type=int, default=5000, help="the first port to try (5000)")
    args = parsed(parser, arguments)
    port = Parameter("port", int, bound=between(1, 65535)).check("--port", args.port)
    from goldfish.tracking.ui import serve

    return serve(args.experiment, port=port)


def bench(arguments: Sequence[str]) -> int:
    """Time this project beside its peers."""
    from goldfish.cli.bench import bench

    return bench(arguments)


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "train": train,
    "reproduce": reproduce,
    "figures": figures,
    "export": export,
    "status": status,
    "ui": ui,
    "bench": bench,
}


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog=f"goldfish {name}", description=description, allow_abbrev=False)


def _experiments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiments", nargs="*", metavar="experiment", help="folders of experiments/")
    parser.add_argument("--scale", default="cpu", metavar="|".join(SCALES), help="how large a sweep (cpu)")


def _check_experiments(args: argparse.Namespace) -> None:
    """Refuse an experiment or a scale that is not there."""
    from goldfish.sweep import experiment

    if not args.experiments:
        raise ConfigError(f"expected an experiment: {', '.join(sorted(experiment.folders())) or 'there is none'}")
    for name in args.experiments:
        experiment.read(name).scale(args.scale)
