"""A ledger of the state of every run, from the store, claims, checkpoints and outcomes that wait to be recorded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from goldfish.config import registry
from goldfish.config.config import CHOICES
from goldfish.tracking import names
from goldfish.tracking.run import Key, Run

if TYPE_CHECKING:
    from goldfish.sweep.claims import Claim
    from goldfish.tracking.store import Store

RESULTS = (*names.FINISHED, "stale", "waiting")  # states of runs that the same command does not train again
WORDS = (*RESULTS, "running", "interrupted", "failed", "missing")


@dataclass(frozen=True)
class State:
    """The state of one run, in one of WORDS, and what it is known from.

    Attributes:
        word: "stale" is a result whose source has changed since, "waiting" one that the store has not got yet.
        attempt: the newest attempt that says so, if any.
        claim: of the process that trains it; of a dead one where the run is interrupted.
        step: training steps in its newest checkpoint.
    """

    word: str
    attempt: Run | None = None
    claim: Claim | None = None
    step: int | None = None

    @property
    def reason(self) -> str:
        """Why it failed, diverged or was interrupted."""
        tags: Mapping[str, str] = self.attempt.tags if self.attempt else {}
        told = tags.get(names.REASON) or tags.get(names.INTERRUPTED) or ""
        return told or ("its process is gone" if self.word == "interrupted" else "")


@dataclass
class Ledger:
    """Everything that is known, by (MLflow experiment, fingerprint)."""

    recorded: dict[Key, list[Run]] = field(default_factory=dict)
    running: dict[Key, Claim] = field(default_factory=dict)
    dead: dict[Key, Claim] = field(default_factory=dict)
    waiting: set[Key] = field(default_factory=set)
    steps: dict[Key, int] = field(default_factory=dict)
    _sources: dict[tuple[str, ...], str | None] = field(default_factory=dict)

    def known(self, experiment: str | None = None) -> list[Key]:
        """Every run that is known of, in one MLflow experiment or in all."""
        known = dict.fromkeys([*self.recorded, *self.running, *self.dead, *sorted(self.waiting), *self.steps])
        return [key for key in known if experiment in (None, key[0])]

    def state(self, key: Key) -> State:
        """The state of a run."""
        tried = self.recorded.get(key, [])
        step = self.steps.get(key)
        if key in self.running:
            return State("running", tried[-1] if tried else None, self.running[key], step)
        finished = [attempt for attempt in tried if attempt.outcome in names.FINISHED]
        if finished:
            return State("stale" if self.stale(finished[-1]) else finished[-1].outcome, finished[-1])
        if key in self.waiting:
            return State("waiting")
        last = next((attempt for attempt in reversed(tried) if names.SUPERSEDED not in attempt.tags), None)
        if key in self.dead or step is not None or (last and last.status in ("RUNNING", "KILLED")):
            return State("interrupted", last, self.dead.get(key), step)
        return State("failed", last) if last else State("missing")

    def stale(self, attempt: Run) -> bool:
        """True when the code that made it has changed since, or is no longer there."""
        settings = attempt.settings
        chosen = tuple(names.choices(settings).values())
        if chosen not in self._sources:
            self._sources[chosen] = _source(chosen)
        return attempt.source_hash != self._sources[chosen]


def _source(chosen: tuple[str, ...]) -> str | None:
    """The hash of today's code of a cell, an initialisation, a task and an optimiser; None where one is gone."""
    from goldfish.sweep.identity import source_hash

    named = dict(zip(CHOICES, chosen, strict=True))
    if any(name not in registry.modules(group) for group, name in named.items()):
        return None
    return source_hash({group: {"name": name} for group, name in named.items()})


def read(store: Store, experiments: Iterable[str] | None = None) -> Ledger:
    """Read all sources, for some MLflow experiments or for all; torch and, for SQLite, MLflow are not imported."""
    from goldfish.sweep.claims import Claims
    from goldfish.tracking import spool
    from goldfish.training.state import checkpoint

    wanted = None if experiments is None else set(experiments)
    recorded: dict[Key, list[Run]] = defaultdict(list)
    for name in [None] if wanted is None else sorted(wanted):
        for attempt in store.attempts(name):
            recorded[attempt.key].append(attempt)
    claims = Claims(store.state / "claims")
    claimed: dict[bool, dict[Key, Claim]] = {True: {}, False: {}}
    for claim in claims.all():
        claimed[claims.alive(claim)][claim.experiment, claim.fingerprint] = claim
    waiting = set(spool.keys(store.state))
    steps: dict[Key, int] = {}
    for saved in checkpoint.find(store.state / "checkpoints"):
        for name in saved.names:
            experiment, _, fingerprint = name.rpartition("/")
            steps[experiment, fingerprint] = max(saved.step, steps.get((experiment, fingerprint), 0))
    return Ledger(
        dict(recorded),
        _of(claimed[True], wanted),
        _of(claimed[False], wanted),
        {key for key in waiting if wanted is None or key[0] in wanted},
        _of(steps, wanted),
    )


def _of(entries: Mapping[Key, Any], wanted: set[str] | None) -> dict[Key, Any]:
    return {key: value for key, value in entries.items() if wanted is None or key[0] in wanted}
