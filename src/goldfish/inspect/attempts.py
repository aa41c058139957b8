"""Every attempt at a run that a store holds, whatever became of it: what `status` and `explain` tell from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from goldfish.tracking import names
from goldfish.tracking.sqlite import query

if TYPE_CHECKING:
    from goldfish.tracking.store import Store

Key = tuple[str, str]  # MLflow experiment, fingerprint
_TAGS = (
    *(names.FINGERPRINT, names.OUTCOME, names.REASON, names.SOURCE_HASH, names.SWEEP),
    *(names.INTERRUPTED, names.SUPERSEDED, "goldfish.commit", "goldfish.dirty"),
)
_OURS = (
    "FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id "
    "JOIN tags f ON f.run_uuid = r.run_uuid AND f.key = ? {join}"
    "WHERE r.lifecycle_stage = 'active' AND e.lifecycle_stage = 'active' AND (? IS NULL OR e.name = ?)"
)
_PAGE = 1000


class Attempt(NamedTuple):
    """One MLflow run of ours; `started` is unix time in seconds, `parameters` are as MLflow holds them."""

    run_id: str
    experiment: str
    name: str
    status: str
    started: float
    tags: dict[str, str]
    parameters: dict[str, str]

    @property
    def key(self) -> Key:
        """What it was an attempt at."""
        return self.experiment, self.tags[names.FINGERPRINT]

    @property
    def outcome(self) -> str:
        """solved, unsolved, diverged or failed; nothing for one that was not recorded to its end."""
        outcome = self.tags.get(names.OUTCOME)
        return str(outcome) if names.whole(self.status, outcome) else ""

    @property
    def settings(self) -> dict[str, str]:
        """The flat configuration as texts."""
        return {names.LONG.get(key, key): value for key, value in self.parameters.items()}


def read(store: Store, experiment: str | None = None) -> list[Attempt]:
    """The attempts of one MLflow experiment or of all, oldest first. MLflow is not imported for an SQLite store."""
    if not store.exists():
        return []
    found = _from_client(store, experiment) if store.path is None else _from_file(store.path, experiment)
    return sorted(found, key=lambda attempt: attempt.started)


def _from_file(path: Path, experiment: str | None) -> list[Attempt]:
    wanted = [names.FINGERPRINT, experiment, experiment]
    runs = f"SELECT r.run_uuid, e.name, r.name, r.status, r.start_time / 1000.0 {_OURS.format(join='')}"
    found = {str(row[0]): Attempt(row[0], row[1], row[2], row[3], row[4], {}, {}) for row in query(path, runs, wanted)}
    marks = ", ".join("?" for _ in _TAGS)
    tags = f"SELECT x.run_uuid, x.key, x.value {_OURS.format(join='JOIN tags x ON x.run_uuid = r.run_uuid ')}"
    for run_id, key, value in query(path, f"{tags} AND x.key IN ({marks})", [*wanted, *_TAGS]):
        if run_id in found:  # not one that was added between the two questions
            found[run_id].tags[key] = value
    parameters = f"SELECT x.run_uuid, x.key, x.value {_OURS.format(join='JOIN params x ON x.run_uuid = r.run_uuid ')}"
    for run_id, key, value in query(path, parameters, wanted):
        if run_id in found:
            found[run_id].parameters[key] = value
    return list(found.values())


def _from_client(store: Store, experiment: str | None) -> Iterator[Attempt]:
    ids = {found: name for name, found in store.experiments().items() if experiment in (None, name)}
    token: str | None = None
    while ids:
        page = store.client.search_runs(list(ids), max_results=_PAGE, page_token=token)
        for run in page:
            info, tags = run.info, _ours(run.data.tags)
            if names.FINGERPRINT in tags:
                where, started = ids[str(info.experiment_id)], info.start_time / 1000
                yield Attempt(info.run_id, where, info.run_name, info.status, started, tags, dict(run.data.params))
        token = page.token
        if not token:
            return


def _ours(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: tags[key] for key in _TAGS if key in tags}
