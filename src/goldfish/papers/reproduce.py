"""`goldfish reproduce` trains what is missing and draws the results; `goldfish figures` draws them again.

An experiment with a `select` has two stages: trials, which choose what the reported runs are trained with, and those
runs. Both are ordinary sweeps; what is recorded is not trained again, however often they are interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from goldfish.config.config import Config
from goldfish.papers import experiment as experiments
from goldfish.papers import results
from goldfish.papers.experiment import Experiment
from goldfish.tracking.names import FINISHED, flatten

if TYPE_CHECKING:
    import pandas as pd

    from goldfish.papers.plan import Group, Plan, Trials
    from goldfish.sweep.progress import Report
    from goldfish.sweep.run import Rerun
    from goldfish.tracking.store import Store
    from goldfish.training.module import PackModule


def reproduce(names: Sequence[str], *, scale: str, rerun: Rerun, update_results: bool) -> int:
    """Reproduce experiments one after another; return 1 when a run failed.

    Raises ConfigError before anything starts.
    """
    from goldfish.composing.compose import Composer, loader
    from goldfish.papers.plan import plan

    composer = Composer(loader())
    read = [experiments.read(name) for name in names]
    settings = [experiment.scale(scale).settings for experiment in read]
    plans = [None if experiment.has("measure") else plan(experiment, scale, composer) for experiment in read]
    codes = []
    for experiment, planned, given in zip(read, plans, settings, strict=True):
        out, code = results.output(experiment, scale), 0
        tables: dict[str, pd.DataFrame | None]
        if planned is None:
            tables = {results.RUNS: experiment.module("measure").measure(given, out)}
        else:
            tables, code = _sweep(experiment, scale, planned, rerun)
        if tables:
            results.write(out, tables, f"goldfish reproduce {experiment.name} --scale {scale}")
            code = max(code, _show(experiment, scale, tables, update_results=update_results and not code))
        if code and update_results:
            print(f"goldfish: {experiment.name}: runs failed, so its results are not updated", file=sys.stderr)
        codes.append(code)
    return max(codes)


def _show(
    experiment: Experiment, scale: str, tables: Mapping[str, pd.DataFrame | None], *, update_results: bool
) -> int:
    """Draw from the tables that were written, and keep the results if asked; 1 where there is nothing to draw."""
    from goldfish.papers import check

    out, runs = results.output(experiment, scale), tables[results.RUNS]
    if not experiment.has("measure") and runs is not None and not runs["outcome"].isin(FINISHED).any():
        print(f"goldfish: {experiment.name}: no run came to a result, so there is nothing to draw", file=sys.stderr)
        return 1
    drawn = _draw(experiment, out, out)
    if update_results:
        print(f"Results: {results.publish(experiment, scale, [*drawn, *results.written(out), out / results.MANIFEST])}")
        check.keep(check.judge(experiment, scale), scale)
    if not experiment.has("measure"):
        print(f"MLflow UI: goldfish ui {experiment.name}")
    return 0


def _sweep(experiment: Experiment, scale: str, plan: Plan, rerun: Rerun) -> tuple[dict[str, pd.DataFrame | None], int]:
    """Train the trials and the reported runs; the tables, none where nothing could be selected, and the exit code."""
    from goldfish.tracking.store import Store

    store, sweep = Store(), f"{experiment.name}/{scale}"
    scores: pd.DataFrame | None = None
    chosen: Mapping[Group, str] = {}
    code = 0
    if plan.trials is not None:
        scores, chosen, code = _select(plan.trials, store, rerun, sweep)
        if len(chosen) < len(plan.trials.groups):
            return {}, 1
    configs = plan.runs(chosen)
    report = _train(configs, store, rerun, sweep)
    runs, curves = results.ordered(*tables(store, experiment.name, configs, report))
    runs = experiment.judged(runs, curves)
    sampled = experiment.has("samples") and runs["outcome"].isin(FINISHED).any()
    samples = _samples(experiment, runs, store) if sampled else None
    written = {results.RUNS: runs, results.CURVES: curves, results.SELECTION: scores, results.SAMPLES: samples}
    return written, max(code, report.exit_code)


def _samples(experiment: Experiment, runs: pd.DataFrame, store: Store) -> pd.DataFrame:
    """The samples that the experiment's samples.py takes from trained networks."""
    from goldfish.training.trained import trained

    finished = store.finished(experiment.name, runs["fingerprint"])

    def network(fingerprint: str) -> PackModule:
        return trained(store.run_artifacts(finished[fingerprint].run_id))

    table: pd.DataFrame = experiment.module("samples").samples(runs, network)
    return table


def _train(configs: Sequence[Config], store: Store, rerun: Rerun, sweep: str) -> Report:
    """Train what is missing, and say what came of it and which runs failed."""
    from goldfish.sweep.launch import failures
    from goldfish.sweep.run import run_sweep

    report = run_sweep(configs, store=store, rerun=rerun, sweep_name=sweep)
    print(report.summary(), flush=True)
    for line in failures(report):
        print(f"goldfish: {line}", file=sys.stderr)
    return report


def _select(trials: Trials, store: Store, rerun: Rerun, sweep: str) -> tuple[pd.DataFrame, Mapping[Group, str], int]:
    """Train the trials; every candidate's score, the candidate chosen for each group, and the exit code.

    A group whose trials all failed has none, which is said.
    """
    from goldfish.papers import selection
    from goldfish.papers.plan import written
    from goldfish.tracking.tables import runs_table

    configs = [trial.config for trial in trials.runs]
    print(f"Trials, recorded as {trials.experiment_name}:", flush=True)
    report = _train(configs, store, rerun, sweep)
    scores = trials.scores(runs_table(_rows(store, trials.experiment_name, configs, report)), report.fingerprints)
    chosen = selection.chosen(scores)
    for group in trials.groups:
        if group not in chosen:
            lost = f"no trial of {written(trials.per, group)} has {trials.by}, so nothing can be selected"
            print(f"goldfish: {lost}", file=sys.stderr)
    if len(chosen) == len(trials.groups):
        print("Reported runs, each with what its trials select:", flush=True)
    return scores, chosen, report.exit_code


def redraw(names: Sequence[str], *, scale: str, update_results: bool = False) -> None:
    """Draw experiments' figures again and print their tables; with update_results those kept with the experiments.

    Raises ConfigError before anything is drawn.
    """
    read = [experiments.read(name) for name in names]
    places = [results.find(experiment, scale, kept=update_results) for experiment in read]
    for experiment, place in zip(read, places, strict=True):
        _draw(experiment, place, place if update_results else results.output(experiment, scale))
        if update_results:
            results.embed(experiment.folder)


def tables(store: Store, name: str, configs: Sequence[Config], report: Report) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The sweep's runs and their curves; a run that could not be recorded is a row of outcome "missing"."""
    from goldfish.tracking.tables import curves_table, runs_table

    rows = _rows(store, name, configs, report)
    return runs_table(rows), curves_table(store, rows[rows["outcome"] != "missing"])


def _rows(store: Store, name: str, configs: Sequence[Config], report: Report) -> pd.DataFrame:
    """Rows as of Store.runs, with a row of outcome "missing" for a run that could not be recorded."""
    import pandas as pd

    runs = store.runs(name)
    runs = runs[runs["fingerprint"].isin(report.fingerprints) & runs["outcome"].isin((*FINISHED, "failed"))]
    planned = dict(zip(report.fingerprints, configs, strict=True))
    missing = [
        flatten(planned[fingerprint]) | {"fingerprint": fingerprint, "outcome": "missing", "reason": "not recorded"}
        for fingerprint in planned.keys() - set(runs["fingerprint"])
    ]
    return pd.concat([runs, pd.DataFrame(missing)]) if missing else runs


def _draw(experiment: Experiment, place: Path, out: Path) -> list[Path]:
    """Draw from the tables in `place` into `out`, and print what the runs came to; returns the figures' files."""
    drawn, told = results.draw(experiment, *results.read(place), out)
    print(f"\n{told}\n")
    for file in drawn:
        print(f"Written: {file}")
    return drawn
