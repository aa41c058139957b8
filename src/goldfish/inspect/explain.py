"""`goldfish explain`: whether a run is recorded, and why it would or would not be trained again."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldfish.config.config import CHOICES, Config, resolve
from goldfish.errors import ConfigError, nearest
from goldfish.inspect import ledger
from goldfish.inspect.ledger import Ledger, State
from goldfish.inspect.status import texts
from goldfish.sweep.identity import fingerprint
from goldfish.sweep.recorder import opened
from goldfish.tracking import names
from goldfish.tracking.run import Key, Run

if TYPE_CHECKING:
    from goldfish.tracking.store import Store

SHOWN = 4  # keys in which two runs differ
_UNCOUNTED = ("trainer.accelerator", "tracking.experiment_name")  # no part of what a run is
_PREFIX = re.compile(r"[0-9a-f]{4,64}")


def explain(words: Sequence[str]) -> list[list[str]]:
    """A block of lines on a run, one for each MLflow experiment that has it.

    `words` are overrides, the start of a fingerprint or of an MLflow run's id, or a run's name. Raises ConfigError for
    overrides that no run can have, and for what names no recorded run or several.
    """
    store = opened()
    lines = _words(words)
    if all("=" in line for line in lines):  # a run's name has words without, such as its cell
        return [_of_overrides(store, lines)]
    known = ledger.read(store)
    return [_of_recorded(known, key) for key in _named(known, " ".join(words))]


def _words(words: Sequence[str]) -> list[str]:
    """Overrides, given one by one or together in quotes."""
    try:
        return [part for word in words for part in shlex.split(word)]
    except ValueError as error:
        raise ConfigError(f"{' '.join(words)}: {error}") from error


def _of_overrides(store: Store, lines: Sequence[str]) -> list[str]:
    from goldfish.composing.compose import Composer, loader

    composer = Composer(loader())
    config = composer.config([composer.setting(line) for line in lines])
    key = (config.tracking.experiment_name, fingerprint(config))
    known = ledger.read(store)
    return [_head(names.run_name(config), key), *_verdict(known, key, texts(config))]


def _named(known: Ledger, name: str) -> list[Key]:
    """The recorded run that is meant; several keys where it is recorded in several MLflow experiments."""
    tried = [attempt for own in known.recorded.values() for attempt in own]
    keys = [attempt.key for attempt in tried if name in (attempt.run_id, attempt.name)]
    if not keys and _PREFIX.fullmatch(name):
        keys = [attempt.key for attempt in tried if attempt.run_id.startswith(name)]
        keys += [key for key in known.known() if key[1].startswith(name)]
    runs = list(dict.fromkeys(fingerprint for _, fingerprint in keys))
    if len(runs) > 1:
        listed = ", ".join(run[:12] for run in runs[:5])
        raise ConfigError(f"{name}: {len(runs)} runs; give a fingerprint: {listed}{', …' if len(runs) > 5 else ''}")
    if not runs:
        told = (
            nearest(name, {attempt.name for attempt in tried}) if len(tried) <= SHOWN else "goldfish status lists all"
        )
        raise ConfigError(f"{name}: no run of this name, id or fingerprint is recorded; {told}")
    return list(dict.fromkeys(keys))


def _of_recorded(known: Ledger, key: Key) -> list[str]:
    """A run that is known of, with what today's code makes of its configuration."""
    tried = known.recorded.get(key)
    if not tried:
        return [_head(key[1][:12], key), *_verdict(known, key, {})]
    last = tried[-1]
    return [_head(last.name, key), *_verdict(known, key, last.settings), *_today(last)]


def _head(name: str, key: Key) -> str:
    return f"{name}, fingerprint {key[1][:12]}, MLflow experiment {key[0]}"


def _verdict(known: Ledger, key: Key, settings: Mapping[str, str]) -> list[str]:
    """The state of the run, and whether the same command trains it."""
    state = known.state(key)
    lines = [f"  {_what(state)}", f"  {_then(state)}"]
    if state.word == "stale" and state.attempt:
        lines += [f"  {line}" for line in _changes(state.attempt)]
    if state.word != "missing":
        return lines
    elsewhere = [other for other in known.known() if other[1] == key[1] and other != key]
    done = [other[0] for other in elsewhere if known.state(other).word in (*names.FINISHED, "stale")]
    if done:
        where = ", ".join(done)
        return [*lines, f"  the same run is recorded in {where}: a run is trained once in each MLflow experiment"]
    return [*lines, *(f"  {line}" for line in _nearest(known, key, settings))]


def _what(state: State) -> str:
    attempt, reason = state.attempt, f": {state.reason}" if state.reason else ""
    when = f", {_time(attempt.started)}, MLflow run {attempt.run_id}" if attempt else ""
    checkpoint = "" if state.step is None else f", checkpoint of step {state.step}"
    if state.claim and state.word == "running":
        return f"running on {state.claim.host}, process {state.claim.pid}, since {_time(state.claim.claimed)}"
    if state.word == "stale" and attempt:
        return f"recorded: {attempt.outcome}{when}; its source has changed since"
    if state.word in names.FINISHED:
        return f"recorded: {state.word}{when}{reason}"
    return {
        "waiting": "trained, and waits to be recorded",
        "missing": "not recorded",
        "failed": f"failed before{when}{reason}",
        "interrupted": f"interrupted{when}{reason}{checkpoint}",
    }[state.word]


def _then(state: State) -> str:
    """Whether the same command trains the run."""
    go_on = "it goes on from there" if state.step is not None else "it starts anew"
    return {
        "stale": "not trained again, unless with hydra.launcher.rerun=stale (reproduce: --rerun stale)",
        "waiting": "not trained again: the next command records it first",
        "running": "not trained a second time: other sweeps leave it to this process",
        "interrupted": f"would be trained: {go_on}",
        "failed": "would be trained again: a failure is no result",
        "missing": "would be trained",
    }.get(state.word, "not trained again: the same configuration, and the same source")


def _nearest(known: Ledger, key: Key, settings: Mapping[str, str]) -> list[str]:
    """The finished run that differs least, of the same MLflow experiment where it has one, and how it differs."""
    if not settings:
        return []
    tried = [(own[0] == key[0], attempt) for own in known.recorded for attempt in known.recorded[own] if own != key]
    finished = [(same, attempt) for same, attempt in tried if attempt.outcome in names.FINISHED]
    if not finished:
        return ["no finished run to compare it with"]
    same, other = min(finished, key=lambda item: (not item[0], len(differences(settings, item[1].settings))))
    place = "" if same else f" of {other.experiment}"
    head = f"nearest finished run{place}: {other.name} ({other.key[1][:12]}), which differs in"
    return _listed(head, differences(settings, other.settings))


def differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Such as "seed=3, there 2", for each key that makes two flat configurations different runs."""
    keys = [key for key in dict.fromkeys([*one, *other]) if key not in _UNCOUNTED]
    changed = [key for key in keys if one.get(key) != other.get(key)]
    return [f"{key}={one.get(key, '–')}, there {other.get(key, '–')}" for key in changed]


def _listed(head: str, different: Sequence[str]) -> list[str]:
    if not different:
        return [f"{head} nothing but the content of its real data, or keys that it does not record"]
    rest = len(different) - SHOWN
    return [head, *(f"  {line}" for line in different[:SHOWN]), *([f"  and {rest} keys more"] if rest > 0 else [])]


def _today(attempt: Run) -> list[str]:
    """A line where today's code takes the recorded configuration for another run, or refuses it."""
    try:
        config = configuration(attempt.settings)
        now = fingerprint(config)
    except ConfigError as error:
        return [f"  today's code does not take its configuration: {error}"]
    if now == attempt.key[1]:
        return []
    head = f"  its settings make another run today ({now[:12]}), by"
    return _listed(head, differences(texts(config), attempt.settings))


def configuration(settings: Mapping[str, str]) -> Config:
    """The resolved configuration of a run, from flat texts. Raises ConfigError where today's code refuses it."""
    nested: dict[str, Any] = {}
    for key, value in (names.typed(settings) | names.choices(settings)).items():
        group, _, inner = key.partition(".")
        if key in names.LISTS:
            nested.setdefault(group, {})[inner] = json.loads(value)
        elif group == "probe":
            probe, _, argument = inner.partition(".")
            for name in [probe] if probe else json.loads(value):
                nested.setdefault(group, {}).setdefault(name, {}).update({argument: value} if probe else {})
        elif inner or group in CHOICES:
            nested.setdefault(group, {})[inner or "name"] = value
        else:
            nested[group] = value
    return resolve(nested)


def _changes(attempt: Run) -> list[str]:
    """Which of the files that made the run have changed since its commit, where git tells."""
    from goldfish.sweep import identity

    commit = attempt.tags.get("goldfish.commit", "")
    chosen = {group: {"name": name} for group, name in names.choices(attempt.settings).items()}
    try:
        files = identity.source_files(chosen)
    except ConfigError as error:
        return [f"its source is gone: {error}"]
    except KeyError as error:
        return [f"its source is gone: there is no {error.args[0]} any more"]
    changed = _changed(commit, files) if re.fullmatch(r"[0-9a-f]{7,64}", commit) else None
    if changed is None:
        return []
    dirty = " (which had uncommitted changes)" if attempt.tags.get("goldfish.dirty") == "true" else ""
    listed = ", ".join(changed[:SHOWN]) + (f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else "")
    return [f"changed since commit {commit[:10]}{dirty}: {listed or 'none of its files'}"]


def _changed(commit: str, files: Iterable[Path]) -> list[str] | None:
    """Those of the files that differ from a commit; None where git cannot tell."""
    from goldfish.tracking.provenance import PACKAGE

    own = [str(path) for path in files if path.is_relative_to(PACKAGE)]
    command = ["git", "-C", str(PACKAGE), "diff", "--name-only", "--relative", commit, "--", *own]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.split()


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
