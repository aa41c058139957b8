"""`goldfish reproduce` and `goldfish figures`: train what is missing, then tables, figures and the verdict."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from goldfish.cli import results
from goldfish.config import Config
from goldfish.sweep import experiment as experiments
from goldfish.sweep.experiment import Experiment
from goldfish.tracking.names import FINISHED, flatten

if TYPE_CHECKING:
    import pandas as pd

    from goldfish.sweep.report import Report
    from goldfish.sweep.run import Rerun
    from goldfish.tracking.store import Store


def reproduce(names: Sequence[str], *, scale: str, rerun: Rerun, update_results: bool) -> int:
    """Reproduce experiments one after another; return 1 when a run failed.

    Raises ConfigError before anything starts.
    """
    from goldfish.sweep.compose import Composer, loader
    from goldfish.tracking.store import Store

    composer = Composer(loader())
    read = [experiments.read(name) for name in names]
    plans = [(experiment, experiments.expand(experiment, scale, composer)) for experiment in read]
    store = Store()
    codes = [_reproduce(experiment, scale, configs, store, rerun, update_results) for experiment, configs in plans]
    return max(codes)


def _reproduce(
    experiment: Experiment,
    scale: str,
    configs: list[Config],
    store: Store,
    rerun: Rerun,
    update_results: bool,
) -> int:
    from goldfish.figures.criterion import judge
    from goldfish.sweep.launch import failures
    from goldfish.sweep.run import run_sweep

    report = run_sweep(configs, store=store, rerun=rerun, sweep_name=f"{experiment.name}/{scale}")
    print(report.summary())
    for line in failures(report):
        print(f"goldfish: {line}", file=sys.stderr)
    out = results.output(experiment, scale)
    runs, curves = tables(store, experiment.name, configs, report)
    runs = judge(runs, curves, experiment.solved)
    results.write(out, runs, curves)
    if not runs["outcome"].isin(FINISHED).any():
        print(f"goldfish: {experiment.name}: no run came to a result, so there is nothing to draw", file=sys.stderr)
        return 1
    runs, files = _show(experiment, scale)
    results.write_manifest(out, f"goldfish reproduce {experiment.name} --scale {scale}", runs)
    files = [*files, *(out / name for name in (results.RUNS, results.CURVES, results.MANIFEST))]
    if update_results and report.exit_code:
        print(f"goldfish: {experiment.name}: runs failed, so its results are not updated", file=sys.stderr)
    elif update_results:
        print(f"Results: {results.publish(experiment, scale, files)}")
    print(f"MLflow UI: goldfish ui {experiment.name}")
    return report.exit_code


def redraw(names: Sequence[str], *, scale: str) -> None:
    """Draw experiments' figures again and print their tables. Raises ConfigError before anything is drawn."""
    read = [experiments.read(name) for name in names]
    for experiment in read:
        results.find(experiment, scale)
    for experiment in read:
        _show(experiment, scale)


def tables(store: Store, name: str, configs: Sequence[Config], report: Report) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The sweep's runs and their curves; a run that could not be recorded is a row of outcome "missing"."""
    import pandas as pd

    from goldfish.tracking.export import curves_table, runs_table

    runs = store.runs(name)
    runs = runs[runs["fingerprint"].isin(report.fingerprints) & runs["outcome"].isin((*FINISHED, "failed"))]
    planned = dict(zip(report.fingerprints, configs, strict=True))
    missing = [
        flatten(planned[fingerprint]) | {"fingerprint": fingerprint, "outcome": "missing", "reason": "not recorded"}
        for fingerprint in planned.keys() - set(runs["fingerprint"])
    ]
    return runs_table(pd.concat([runs, pd.DataFrame(missing)]) if missing else runs), curves_table(store, runs)


def _show(experiment: Experiment, scale: str) -> tuple[pd.DataFrame, list[Path]]:
    """Draw from the tables on disk, print the verdict, and return the runs and the figures' files."""
    from goldfish.figures.load import read

    runs, curves = read(results.find(experiment, scale))
    files, table = results.draw(experiment, runs, curves, results.output(experiment, scale))
    print(f"\n{table}\n")
    for file in files:
        print(f"Written: {file}")
    return runs, files
