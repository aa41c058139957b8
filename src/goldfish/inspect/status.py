"""`goldfish status`: the runs that are recorded or in progress, counted, or drawn for one experiment."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from goldfish.config.config import Config
from goldfish.errors import ConfigError, nearest
from goldfish.inspect import ledger, picture
from goldfish.inspect.ledger import Ledger, State
from goldfish.sweep.progress import clock
from goldfish.sweep.recorder import opened
from goldfish.tracking import names
from goldfish.tracking.run import Key

if TYPE_CHECKING:
    from goldfish.papers.plan import Group, Trials
    from goldfish.sweep.claims import Claim
    from goldfish.tracking.store import Store

COLUMNS = ("solved", "unsolved", "diverged", "failed", "interrupted", "running", "waiting", "stale")
REASONS = 3  # of failed runs, the commonest
Run = tuple[Mapping[str, str], State]  # its flat configuration as texts


def status() -> tuple[list[list[str]], list[str]]:
    """A table of the runs of each MLflow experiment by state, its head first, and lines on who trains.

    Runs made by code that has changed since count as stale, and in the column of their outcome as well.
    """
    store = opened()
    known = ledger.read(store)
    if not known.known():
        return [], [f"nothing is recorded in {store.uri}"]
    groups: dict[str, list[State]] = defaultdict(list)
    for key in known.known():
        groups[key[0]].append(known.state(key))
    table = [["experiment", *COLUMNS]]
    for name, states in groups.items():
        counts = Counter(_outcome(state) for state in states) + Counter(s.word for s in states if s.word == "stale")
        table.append([name, *(str(counts[column]) for column in COLUMNS)])
    return table, _running(known.running.values(), named=True)


def of_experiment(name: str, scale: str) -> list[str]:
    """The picture of an experiment of experiments/<name> at a scale, or of an MLflow experiment.

    Raises ConfigError where there is neither.
    """
    from goldfish.papers import experiment as experiments

    store = opened()
    if name in experiments.folders():
        return _planned(store, name, scale)
    known = ledger.read(store, [name])
    if not known.known():
        choices = {*experiments.folders(), *store.experiments()}
        raise ConfigError(f"{name}: no such experiment; {nearest(name, choices)}")
    runs = sorted(((_settings(known, key), known.state(key)) for key in known.known()), key=_order)
    return [*_section(f"{name}, as recorded", runs), *_told(runs)]


def _planned(store: Store, name: str, scale: str) -> list[str]:
    """The lines on an experiment's plan: trials, then reported runs, then what to do about them."""
    from goldfish.papers import experiment as experiments
    from goldfish.papers.plan import plan

    experiment = experiments.read(name)
    experiment.scale(scale)  # refuse a wrong one before anything is composed
    planned = plan(experiment, scale)
    trials = planned.trials
    known = ledger.read(store, [name, *([trials.experiment_name] if trials else [])])
    lines: list[str] = []
    tried: list[Run] = []
    chosen: Mapping[Group, str] | None = {}
    if trials is not None:
        tried = _states(known, [trial.config for trial in trials.runs])
        chosen = _chosen(trials, tried, store)
        lines += [*_section(f"{trials.experiment_name} --scale {scale}", tried), ""]
    reported: list[Run] = []
    if chosen is None:
        lines += [f"{name} --scale {scale}: {len(planned.points)} runs", "  known once their trials have selected"]
    else:
        reported = _states(known, planned.runs(chosen))
        lines += _section(f"{name} --scale {scale}", reported)
    runs = [*tried, *reported]
    return [*lines, *_told(runs), *_advice(f"goldfish reproduce {name} --scale {scale}", runs)]


def _states(known: Ledger, configs: Sequence[Config]) -> list[Run]:
    from goldfish.sweep.identity import fingerprints

    names_of = [config.tracking.experiment_name for config in configs]
    keys = list(zip(names_of, fingerprints(configs), strict=True))
    return [(texts(config), known.state(key)) for config, key in zip(configs, keys, strict=True)]


def _chosen(trials: Trials, runs: Sequence[Run], store: Store) -> Mapping[Group, str] | None:
    """The candidates that the trials select; None while a trial is unfinished or a group has no result."""
    from goldfish.papers import selection
    from goldfish.sweep.identity import fingerprints
    from goldfish.tracking.tables import runs_table

    if any(state.word not in (*names.FINISHED, "stale", "failed") for _, state in runs):
        return None
    order = fingerprints([trial.config for trial in trials.runs])
    chosen = selection.chosen(trials.scores(runs_table(store.runs(trials.experiment_name)), order))
    return chosen if len(chosen) == len(trials.groups) else None


def texts(config: Config) -> dict[str, str]:
    """The flat configuration of a run as MLflow holds it."""
    return {key: str(value) for key, value in names.flatten(config).items()}


def _settings(known: Ledger, key: Key) -> Mapping[str, str]:
    """The settings of a run that no plan tells: as recorded, else what its claim says."""
    if key in known.recorded:
        return known.recorded[key][-1].settings
    claim = known.running.get(key) or known.dead.get(key)
    pairs = (word.partition("=") for word in (claim.label.split() if claim else ()))
    return {name: value for name, sign, value in pairs if sign}


def _order(run: Run) -> tuple[str, int, str, str]:
    """Task, length as a number, cell, initialisation."""
    settings, _ = run
    length = settings.get("task.length", "")
    number = int(length) if length.isdecimal() else 0
    return settings.get("task", ""), number, settings.get("cell", ""), settings.get("init", "")


def _section(title: str, runs: Sequence[Run]) -> list[str]:
    states = [state for _, state in runs]
    head = f"{title}: {len(runs)} run{'' if len(runs) == 1 else 's'} ({picture.counted(states)})"
    return [head, *picture.draw(runs)]


def _told(runs: Sequence[Run]) -> list[str]:
    """Where runs are trained, what is left of interrupted ones, and why others failed."""
    states = [state for _, state in runs]
    lines = _running([state.claim for state in states if state.word == "running" and state.claim])
    kept = [state.step for state in states if state.word == "interrupted" and state.step is not None]
    if kept:
        lines.append(f"interrupted: {len(kept)} will go on from checkpoints, the latest of step {max(kept)}")
    reasons = Counter(state.reason or "no reason is recorded" for state in states if state.word == "failed")
    lines += [f"failed: {count} × {reason}" for reason, count in reasons.most_common(REASONS)]
    rest = sum(reasons.values()) - sum(count for _, count in reasons.most_common(REASONS))
    return [*lines, *([f"failed: {rest} for other reasons"] if rest else [])]


def _running(claims: Iterable[Claim], *, named: bool = False) -> list[str]:
    """A line for each process that trains, `named` after the MLflow experiment."""
    groups: dict[tuple[str, str, int], list[Claim]] = defaultdict(list)
    for claim in claims:
        groups[claim.experiment if named else "", claim.host, claim.pid].append(claim)
    lines = []
    for (experiment, host, pid), own in groups.items():
        since = clock(max(0.0, time.time() - min(claim.claimed for claim in own)))
        head = f"{experiment}: running" if named else "running"
        lines.append(f"{head}: {len(own)} on {host}, process {pid}, for {since}")
    return lines


def _advice(command: str, runs: Sequence[Run]) -> list[str]:
    """A line on what the command would do now."""
    counts = Counter(state.word for _, state in runs)
    todo = [word for word in ("interrupted", "failed", "missing") if counts[word]]
    lines = []
    if todo:
        listed = ", ".join(f"{counts[word]} {word}" for word in todo)
        lines.append(f"{command} trains {sum(counts[word] for word in todo)}: {listed}")
    if counts["stale"]:
        lines.append(f"{command} --rerun stale repeats the {counts['stale']} stale")
    return lines


def _outcome(state: State) -> str:
    """The column that a run counts in; a stale one counts in that of its outcome as well."""
    return state.attempt.outcome if state.word == "stale" and state.attempt else state.word
