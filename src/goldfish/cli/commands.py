"""The commands and their options; each imports what it needs when it is run."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from annotated_types import Interval

import goldfish
from goldfish.cli.options import Parser, choice, parsed
from goldfish.config.signatures import Parameter
from goldfish.errors import ConfigError, nearest, printable
from goldfish.sweep import machine

if TYPE_CHECKING:
    from goldfish.sweep.run import Rerun

HELP = """\
How far back can a recurrent network remember, and why does it forget?

  goldfish train [overrides]              train one run and record it
  goldfish train -m [overrides]           train every combination: cell=rnn,lstm seed=0,1 task.length=10,20
  goldfish reproduce <experiment> …       train what an experiment lacks, then its table and figures
  goldfish figures <experiment> …         draw an experiment's figures again from its table
  goldfish check [experiment] …           our results beside the published ones, with a verdict for each claim
  goldfish paper                          every experiment's figures and verdicts in one PDF
  goldfish export --to runs.csv|.parquet  every recorded run as one table
  goldfish status [experiment]            what is recorded, running, interrupted, failed, stale or missing
  goldfish explain <run>                  whether a run is recorded, and why it would be trained again or not
  goldfish doctor                         check store, locks, disk, GPU and versions; correct moved paths
  goldfish ui [experiment]                open the recorded runs in the MLflow UI
  goldfish bench                          time this project beside its peers, as ratios (in a clone)

goldfish <command> --help explains one command, goldfish --version tells the version.
Shell completion: eval "$(goldfish train -sc install=bash)"
"""
SCALES = ("smoke", "cpu", "gpu")
ANYWHERE = ("figures", "check", "paper")  # the other commands train or look at records
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
    if name not in ANYWHERE:
        machine.check_system()
    return COMMANDS[name](rest)


def train(arguments: Sequence[str]) -> int:
    """One run, or a sweep with -m."""
    from goldfish.composing.command_line import train
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
    parser.add_argument("--all", action="store_true", help="every experiment that is compared with a paper")
    parser.add_argument("--update-results", action="store_true", help="copy them into experiments/<name>/results")
    parser.add_argument("--rerun", default="missing", metavar="missing|stale|all", help="runs to train (missing)")
    args = parsed(parser, arguments)
    if args.all:
        args.experiments = _all(args)
    _check_experiments(args)
    from goldfish.sweep.launch import RERUN

    rerun = cast("Rerun", choice("--rerun", args.rerun, RERUN))
    from goldfish.papers.reproduce import reproduce

    return reproduce(args.experiments, scale=args.scale, rerun=rerun, update_results=args.update_results)


def figures(arguments: Sequence[str]) -> int:
    """Draw experiments' figures from their tables."""
    parser = _parser("figures", "Draw an experiment's figures from its table: no training, no store.")
    _experiments(parser)
    parser.add_argument(
        "--update-results", action="store_true", help="from the table in experiments/<name>/results, and into there"
    )
    args = parsed(parser, arguments)
    _check_experiments(args)
    from goldfish.papers.reproduce import redraw

    redraw(args.experiments, scale=args.scale, update_results=args.update_results)
    return 0


def check(arguments: Sequence[str]) -> int:
    """Compare results with what was published."""
    about = (
        "Compare results with what papers report, claim by claim, by the rules in experiments/<name>/published.csv. "
        "Exit code 1 where a verdict is not the one that is kept with the results."
    )
    parser = _parser("check", about)
    parser.add_argument("experiments", nargs="*", metavar="experiment", help="folders of experiments/ (all)")
    parser.add_argument("--scale", default="cpu", metavar="|".join(SCALES), help="whose results (cpu)")
    parser.add_argument("--update", action="store_true", help="keep these verdicts, and write experiments/README.md")
    args = parsed(parser, arguments)
    from goldfish.papers.check import check

    return check(args.experiments, scale=choice("--scale", args.scale, SCALES), update=args.update)


def paper(arguments: Sequence[str]) -> int:
    """Write all figures and verdicts into one PDF."""
    parser = _parser("paper", "Write every experiment's figures, captions and verdicts, as they are kept, into a PDF.")
    parser.add_argument("--to", default="outputs/paper.pdf", metavar="FILE", help="where to (outputs/paper.pdf)")
    parser.add_argument("--scale", default="cpu", metavar="|".join(SCALES), help="whose results (cpu)")
    args = parsed(parser, arguments)
    from goldfish.papers.paper import paper

    count = paper(Path(args.to), choice("--scale", args.scale, SCALES))
    print(f"{args.to}: {count} experiments")
    return 0


def export(arguments: Sequence[str]) -> int:
    """Write every recorded run into one table."""
    parser = _parser("export", "Write every recorded run into one table.")
    parser.add_argument("--to", metavar="runs.csv|runs.parquet", help="the file to write")
    parser.add_argument("--experiment", help="the runs of one MLflow experiment only")
    args = parsed(parser, arguments)
    if args.to is None:
        raise ConfigError("--to: expected a file, runs.csv or runs.parquet")
    from goldfish.sweep.replay import opened
    from goldfish.tracking.tables import export

    table = export(opened(), Path(args.to), args.experiment)
    print(f"{args.to}: {len(table)} runs")
    return 0


def status(arguments: Sequence[str]) -> int:
    """Count what is recorded, or draw one experiment."""
    about = (
        "Count the runs of every MLflow experiment by state; or draw one experiment: a row for each group of runs, "
        "a mark for each seed."
    )
    parser = _parser("status", about)
    parser.add_argument("experiment", nargs="?", help="a folder of experiments/, or an MLflow experiment")
    parser.add_argument("--scale", default="cpu", metavar="|".join(SCALES), help="of an experiment's folder (cpu)")
    args = parsed(parser, arguments)
    from goldfish.inspect import status

    _print(status.status() if args.experiment is None else status.of_experiment(args.experiment, args.scale))
    return 0


def explain(arguments: Sequence[str]) -> int:
    """Say why a run would be trained again, or not."""
    parser = _parser("explain", "Say whether a run is recorded, and why it would or would not be trained again.")
    parser.add_argument("run", nargs="*", help='overrides ("cell=lstm seed=3"), a fingerprint, a run\'s id or name')
    args = parsed(parser, arguments)
    if not args.run:
        raise ConfigError("expected a run: overrides, the start of a fingerprint, an MLflow run's id or name")
    from goldfish.inspect.explain import explain

    _print(explain(args.run))
    return 0


def doctor(arguments: Sequence[str]) -> int:
    """Check everything around the runs; 1 when something is bad."""
    parser = _parser("doctor", "Check store, locks, disk, GPU, versions, artifact paths and leftovers: a line each.")
    parser.add_argument("--relocate", action="store_true", help="correct artifact paths after the folder was moved")
    release = "give up the claims of dead processes here, and with a name all claims of that host"
    parser.add_argument("--release", nargs="?", const="", metavar="host", help=release)
    parser.add_argument("--torch", action="store_true", help="import torch and ask it for the GPU")
    args = parsed(parser, arguments)
    from goldfish.inspect.doctor import doctor

    bad = False
    for line in doctor(move=args.relocate, release=args.release, torch=args.torch):
        _print(str(line))
        bad = bad or line.grade == "bad"
    return int(bad)


def ui(arguments: Sequence[str]) -> int:
    """Open the MLflow UI."""
    parser = _parser("ui", "Start the MLflow UI on this machine and print the link into the prepared view.")
    parser.add_argument("experiment", nargs="?", help="the MLflow experiment to open")
    parser.add_argument("--port", type=int, default=5000, help="the first port to try (5000)")
    args = parsed(parser, arguments)
    port = Parameter("port", int, bound=Interval(ge=1, le=65535)).check("--port", args.port)
    from goldfish.sweep.replay import opened
    from goldfish.tracking.ui import serve

    return serve(args.experiment, store=opened(), port=port)


def bench(arguments: Sequence[str]) -> int:
    """Time this project beside its peers."""
    root = Path(__file__).parents[3]
    if not (root / "benchmarks" / "command.py").is_file():
        raise ConfigError("bench: needs a clone of the repository, for benchmarks/ is not part of the package")
    sys.path.insert(0, str(root))
    from benchmarks.command import bench

    return bench(arguments)


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "train": train,
    "reproduce": reproduce,
    "figures": figures,
    "check": check,
    "paper": paper,
    "export": export,
    "status": status,
    "explain": explain,
    "doctor": doctor,
    "ui": ui,
    "bench": bench,
}


def _print(text: str) -> None:
    """Names and reasons come from a store, which others may write."""
    for line in text.split("\n"):
        print(printable(line), flush=True)


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    return Parser(prog=f"goldfish {name}", description=description, allow_abbrev=False)


def _experiments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiments", nargs="*", metavar="experiment", help="folders of experiments/")
    parser.add_argument("--scale", default="cpu", metavar="|".join(SCALES), help="how large a sweep (cpu)")


def _all(args: argparse.Namespace) -> list[str]:
    """The experiments that are compared with a paper."""
    from goldfish.papers.check import with_claims

    if args.experiments:
        raise ConfigError(f"--all: stands for every paper's experiment; leave out {' '.join(args.experiments)}")
    return with_claims()


def _check_experiments(args: argparse.Namespace) -> None:
    """Refuse an experiment or a scale that is not there."""
    from goldfish.papers import experiment

    if not args.experiments:
        raise ConfigError(f"expected an experiment: {', '.join(sorted(experiment.folders())) or 'there is none'}")
    for name in args.experiments:
        experiment.read(name).scale(args.scale)
    if not re.fullmatch(r"\w[\w.-]*", args.scale):
        raise ConfigError(f"--scale={args.scale}: results lie in a folder of this name: letters, digits, dots, dashes")
