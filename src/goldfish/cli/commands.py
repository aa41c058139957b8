"""The commands of `goldfish` and their options; each command imports what it needs only when it is run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

import goldfish
from goldfish.cli import output
from goldfish.errors import ConfigError, nearest

if TYPE_CHECKING:
    from goldfish.sweep.run import Rerun

SCALES = ("smoke", "cpu", "gpu")
ANYWHERE = ("figures", "check", "paper")  # the other commands train or look at records
HELP = {"help_option_names": ["-h", "--help"]}
FORWARDED: dict[str, Any] = {  # all words are somebody else's to read
    "context_settings": {"ignore_unknown_options": True, "allow_interspersed_args": False},
    "add_help_option": False,
}


class Commands(click.Group):
    """Commands in the order of this file; an unknown one is answered with the nearest."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Name the commands."""
        return list(self.commands)

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command. Raises ConfigError for an unknown one."""
        if args[0] not in self.commands and not args[0].startswith("-"):
            raise ConfigError(
                f"{args[0]}: unknown command; {nearest(args[0], [*self.commands, '--help', '--version'])}"
            )
        return super().resolve_command(context, args)


class Choice(click.Choice[str]):
    """One of a few words; another is answered with the nearest."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> str:
        """Return the word. Raises ConfigError for another one."""
        if value not in self.choices:
            raise ConfigError(f"{parameter.opts[0] if parameter else ''}={value}: {nearest(value, self.choices)}")
        return str(value)


def _complete(context: click.Context, parameter: click.Parameter, asked: str | None) -> None:
    """Answer `-sc query=<shell>` and `-sc install=<shell>`: Hydra for `train` and its overrides, click for the rest."""
    if asked is None:
        return
    from goldfish.composing.command_line import train

    line = os.environ.get("COMP_LINE", "")
    program, *words = line.split() or [""]
    typed = "" if line.endswith(" ") or not words else words.pop()
    if asked.startswith("query=") and words[:1] != ["train"]:
        from click.shell_completion import ShellComplete

        completions = ShellComplete(context.command, {}, "goldfish", "").get_completions(words, typed)
        click.echo(" ".join(item.value for item in completions))
    else:
        os.environ["COMP_LINE"] = " ".join([program, *words[1:], typed])
        train(["--shell-completion", asked])
    context.exit()


def _folders(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """The experiments whose names begin with what is typed."""
    from goldfish.papers.experiment import folders

    return [name for name in sorted(folders()) if name.startswith(typed)]


scale = click.option("--scale", default="cpu", show_default=True, help="A scale of experiment.yaml: smoke, cpu or gpu.")
kept_scale = click.option(
    "--scale", type=Choice(SCALES), default="cpu", show_default=True, help="The scale whose results are read."
)
experiments = click.argument("experiments", nargs=-1, metavar="EXPERIMENT...", shell_complete=_folders)
experiment = click.argument("experiment", required=False, shell_complete=_folders)


@click.group(
    cls=Commands,
    context_settings=HELP,
    epilog='Shell completion: eval "$(goldfish -sc install=bash)", or zsh, or fish.',
)
@click.version_option(goldfish.__version__, "-V", "--version", message="goldfish %(version)s")
@click.option("-sc", "--shell-completion", hidden=True, expose_value=False, is_eager=True, callback=_complete)
@click.pass_context
def main(context: click.Context) -> None:
    """How far back can a recurrent network remember, and why does it forget?"""
    if sys.platform == "win32" and context.invoked_subcommand not in ANYWHERE:
        from goldfish.sweep import machine

        machine.check_system()


@main.command(**FORWARDED)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def train(arguments: tuple[str, ...]) -> int:
    """Train one run, or with -m every combination of values."""
    from goldfish.composing.command_line import train
    from goldfish.sweep.launch import FailedRunsError

    try:
        train(arguments)
    except FailedRunsError as error:
        print(f"goldfish: {error}", file=sys.stderr)
        return 1
    return 0


@main.command()
@experiments
@scale
@click.option("--all", "every", is_flag=True, help="Reproduce every experiment that is compared with a paper.")
@click.option("--update-results", is_flag=True, help="Copy table and figures into experiments/<name>/results.")
@click.option(
    "--rerun",
    type=Choice(("missing", "stale", "all")),
    default="missing",
    show_default=True,
    help="Which runs to train: those without a result, also those made by other code, or all.",
)
def reproduce(experiments: tuple[str, ...], scale: str, every: bool, update_results: bool, rerun: str) -> int:
    """Train what an experiment lacks, then draw its figures.

    Where experiment.yaml has a `select`, trials with seeds of their own come first. They choose settings such as the
    learning rate on validation.
    """
    names = list(experiments)
    if every:
        from goldfish.papers.check import with_claims

        if names:
            raise ConfigError(f"--all: stands for every paper's experiment; leave out {' '.join(names)}")
        names = with_claims()
    _check_experiments(names, scale)
    from goldfish.papers.reproduce import reproduce

    return reproduce(names, scale=scale, rerun=cast("Rerun", rerun), update_results=update_results)


@main.command()
@experiments
@scale
@click.option("--update-results", is_flag=True, help="Read and write experiments/<name>/results.")
def figures(experiments: tuple[str, ...], scale: str, update_results: bool) -> None:
    """Draw an experiment's figures again from its table.

    Nothing is trained, and no store is read.
    """
    _check_experiments(experiments, scale)
    from goldfish.papers.reproduce import redraw

    redraw(list(experiments), scale=scale, update_results=update_results)


@main.command()
@experiments
@kept_scale
@click.option("--update", is_flag=True, help="Keep these verdicts, and write experiments/README.md.")
def check(experiments: tuple[str, ...], scale: str, update: bool) -> int:
    """Compare our results with the published ones.

    Each claim of a paper gets a verdict by the rules in experiments/<name>/published.csv. The exit code is 1 where a
    verdict is not the one that is kept with the results.
    """
    from goldfish.papers.check import check

    return check(list(experiments), scale=scale, update=update)


@main.command()
@click.option("--to", default="outputs/paper.pdf", show_default=True, metavar="FILE", help="The file to write.")
@kept_scale
def paper(to: str, scale: str) -> None:
    """Write all kept figures, captions and verdicts into a PDF."""
    from goldfish.papers.paper import paper

    print(f"{to}: {paper(Path(to), scale)} experiments")


@main.command()
@click.option("--to", required=True, metavar="FILE", help="The file to write: runs.csv or runs.parquet.")
@click.option("--experiment", help="Only the runs of this MLflow experiment.")
def export(to: str, experiment: str | None) -> None:
    """Write every recorded run into one table."""
    from goldfish.sweep.recorder import opened
    from goldfish.tracking.tables import export

    print(f"{to}: {len(export(opened(), Path(to), experiment))} runs")


@main.command()
@experiment
@scale
def status(experiment: str | None, scale: str) -> None:
    """Count what is recorded, running, failed or missing.

    Without an experiment, a line for each MLflow experiment. With one, a row for each group of runs and a mark for each
    seed; EXPERIMENT is a folder of experiments/ or an MLflow experiment.
    """
    from goldfish.inspect import status

    if experiment is None:
        output.counts(*status.status())
    else:
        output.lines(status.of_experiment(experiment, scale))


@main.command()
@click.argument("run", nargs=-1, required=True)
def explain(run: tuple[str, ...]) -> None:
    """Say why a run would be trained again, or would not.

    RUN is overrides such as "cell=lstm seed=3", the start of a fingerprint, or the id or the name of an MLflow run.
    """
    from goldfish.inspect.explain import explain

    output.blocks(explain(run))


@main.command()
@click.option("--relocate", is_flag=True, help="Correct artifact paths after the folder was moved.")
@click.option(
    "--release",
    is_flag=False,
    flag_value="",
    metavar="[HOST]",
    help="Give up the claims of dead processes here, and all claims of a host that is named.",
)
@click.option("--torch", is_flag=True, help="Import torch and ask it for the GPU.")
def doctor(relocate: bool, release: str | None, torch: bool) -> int:
    """Check store, locks, disk, GPU, versions and leftovers.

    The exit code is 1 when something is bad.
    """
    from goldfish.inspect.doctor import doctor

    findings = list(doctor(move=relocate, release=release, torch=torch))
    output.findings(findings)
    return int(any(finding.grade == "bad" for finding in findings))


@main.command()
@experiment
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="The first port to try.")
def ui(experiment: str | None, port: int) -> int:
    """Open the recorded runs in the MLflow UI.

    The UI runs on this machine; the link that is printed leads into the prepared view.
    """
    from goldfish.sweep.recorder import opened
    from goldfish.tracking.ui import serve

    return serve(experiment, store=opened(), port=port)


@main.command(**FORWARDED)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: tuple[str, ...]) -> None:
    """Time this project beside its peers, in a clone of it."""
    root = Path(__file__).parents[3]
    if not (root / "benchmarks" / "command.py").is_file():
        raise ConfigError("bench: needs a clone of the repository, because benchmarks/ is not part of the package")
    sys.path.insert(0, str(root))
    from benchmarks.command import bench

    bench(arguments)


def _check_experiments(names: tuple[str, ...] | list[str], scale: str) -> None:
    """Refuse an experiment or a scale that is not there."""
    from goldfish.papers import experiment

    if not names:
        raise ConfigError(f"expected an experiment: {', '.join(sorted(experiment.folders())) or 'there is none'}")
    for name in names:
        experiment.read(name).scale(scale)
