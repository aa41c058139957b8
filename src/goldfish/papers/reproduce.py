"""`goldfish reproduce` and `goldfish figures`: train what is missing, then tables, figures and the verdict.

An experiment with a `select` has two stages: trials, which choose what the reported runs are trained with, and those
runs. Both are ordinary sweeps; what is recorded is not trained again, whenever they are interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldfish.config.config import Config
from goldfish.papers import experiment as experiments
from goldfish.papers import readme, results
from goldfish.papers.experiment import Experiment
from goldfish.tracking.names import FINISHED, flatten

if TYPE_CHECKING:
    import pandas as pd

    from goldfish.papers.plan import Group, Plan, Trials
    from goldfish.sweep.report import Report
    from goldfish.sweep.run import Rerun
    from goldfish.tracking.store import Store
    from goldfish.training.module import PackModule


def reproduce(names: Sequence[str], *, scale: str, rerun: Rerun, update_results: bool) -> int:
    """Reproduce experiments one after another; return 1 when a run failed.

    Raises ConfigError before anything starts.
    """
    from goldfish.composing.compose import Composer, loader
    from goldfish.papers.plan import plan
    from goldfish.tracking.store import Store

    composer = Composer(loader())
    read = [experiments.read(name) for name in names]
    plans = [None if experiment.measured else plan(experiment, scale, composer) for experiment in read]
    settings = [experiment.scale(scale).settings for experiment in read]
    codes = []
    for experiment, planned, given in zip(read, plans, settings, strict=True):
        if planned is None:
            codes.append(_measure(experiment, scale, given, update_results))
        else:
            codes.append(_reproduce(experiment, scale, planned, Store(), rerun, update_results))
    return max(codes)


def _measure(experiment: Experiment, scale: str, settings: Mapping[str, Any], update_results: bool) -> int:
    """Measure what is no sweep: the table is what the experiment's measure.py returns. Nothing is recorded."""
    from goldfish.figures.load import measure_module

    out = results.output(experiment, scale)
    table = measure_module(experiment.folder).measure(settings, out)
    results.write_measured(out, table, f"goldfish reproduce {experiment.name} --scale {scale}")
    _, files = _show(experiment, scale)
    if update_results:
        files = [*files, *results.tables(out), out / results.MANIFEST]
        print(f"Results: {results.publish(experiment, scale, files)}")
    return 0


def _reproduce(experiment: Experiment, scale: str, plan: Plan, store: Store, rerun: Rerun, update_results: bool) -> int:
    from goldfish.papers.criterion import judge

    out, sweep = results.output(experiment, scale), f"{experiment.name}/{scale}"
    scores: pd.DataFrame | None = None
    chosen: Mapping[Group, str] = {}
    code = 0
    if plan.trials is not None:
        scores, chosen, code = _select(plan.trials, store, rerun, sweep)
        if len(chosen) < len(plan.trials.groups):
            return 1
    configs = plan.runs(chosen)
    report = _train(configs, store, rerun, sweep)
    runs, curves = tables(store, experiment.name, configs, report)
    runs = judge(runs, curves, experiment.solved)
    more = {results.SELECTION: scores, results.SAMPLES: _samples(experiment, runs, store)}
    results.write(out, runs, curves, more, f"goldfish reproduce {experiment.name} --scale {scale}")
    if not runs["outcome"].isin(FINISHED).any():
        print(f"goldfish: {experiment.name}: no run came to a result, so there is nothing to draw", file=sys.stderr)
        return 1
    code = max(code, report.exit_code)
    runs, files = _show(experiment, scale)
    files = [*files, *results.tables(out), out / results.MANIFEST]
    if update_results and code:
        print(f"goldfish: {experiment.name}: runs failed, so its results are not updated", file=sys.stderr)
    elif update_results:
        print(f"Results: {results.publish(experiment, scale, files)}")
        _keep_verdicts(experiment, scale)
    print(f"MLflow UI: goldfish ui {experiment.name}")
    return code


def _keep_verdicts(experiment: Experiment, scale: str) -> None:
    from goldfish.papers import check

    check.keep(check.judge(experiment, scale), scale)


def _samples(experiment: Experiment, runs: pd.DataFrame, store: Store) -> pd.DataFrame | None:
    """What the experiment's samples.py, if there is one, takes from trained networks."""
    from goldfish.figures.load import samples_module

    if not (experiment.folder / "samples.py").is_file():
        return None
    from goldfish.training.trained import trained

    finished = store.finished(experiment.name, runs["fingerprint"])

    def network(fingerprint: str) -> PackModule:
        return trained(store.run_artifacts(finished[fingerprint].run_id))

    found: pd.DataFrame = samples_module(experiment.folder).samples(runs, network)
    return found


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
    rows = runs_table(_rows(store, trials.experiment_name, configs, report))
    scores = selection.score(_grouped(rows, trials, report), trials.per, list(trials.candidates), trials.by)
    chosen = selection.chosen(scores)
    for group in trials.groups:
        if group not in chosen:
            lost = f"no trial of {written(trials.per, group)} has {trials.by}, so nothing can be selected"
            print(f"goldfish: {lost}", file=sys.stderr)
    if len(chosen) == len(trials.groups):
        print("Reported runs, each with what its trials select:", flush=True)
    return scores, chosen, report.exit_code


def _grouped(rows: pd.DataFrame, trials: Trials, report: Report) -> pd.DataFrame:
    """A row for each trial, with the columns of its group and its candidate."""
    columns = dict(zip(trials.per, zip(*(trial.group for trial in trials.runs), strict=True), strict=True))
    found = rows.set_index("fingerprint").loc[list(report.fingerprints)].reset_index()
    return found.assign(**columns, candidate=[trial.candidate for trial in trials.runs])


def redraw(names: Sequence[str], *, scale: str, update_results: bool = False) -> None:
    """Draw experiments' figures again and print their tables; with update_results those kept with the experiments.

    Raises ConfigError before anything is drawn.
    """
    read = [experiments.read(name) for name in names]
    for experiment in read:
        results.kept(experiment, scale) if update_results else results.find(experiment, scale)
    for experiment in read:
        if update_results:
            _draw(experiment, results.kept(experiment, scale), results.published(experiment, scale))
            readme.embed(experiment.folder)
        else:
            _show(experiment, scale)


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


def _show(experiment: Experiment, scale: str) -> tuple[pd.DataFrame, list[Path]]:
    """Draw from the newest tables on disk, print the verdict, and return the runs and the figures' files."""
    return _draw(experiment, results.find(experiment, scale), results.output(experiment, scale))


def _draw(experiment: Experiment, place: Path, out: Path) -> tuple[pd.DataFrame, list[Path]]:
    runs, curves = results.read(place)
    files, table = results.draw(experiment, runs, curves, out)
    print(f"\n{table}\n")
    for file in files:
        print(f"Written: {file}")
    return runs, files
