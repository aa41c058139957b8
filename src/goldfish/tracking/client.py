"""MLflow's own client: the way to write and to read a store that is no SQLite file."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from goldfish.errors import ConfigError
from goldfish.tracking import names
from goldfish.tracking.rows import CurvePoint, Recorded, RunRow, number

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PAGE = 1000
_REQUESTS = 8  # at a time, when the history of metrics is fetched from a server


def quiet() -> None:
    """Switch off MLflow's telemetry, before MLflow is imported, and the reports of its migrations."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    # the recorder tries again itself, and says so: MLflow would be silent for minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)


def connect(uri: str) -> MlflowClient:
    """Import MLflow and return a client of this store."""
    quiet()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def find(client: MlflowClient, name: str) -> str | None:
    """The id of an MLflow experiment; None when there is none. Raises ConfigError when it was deleted in the UI."""
    found = client.get_experiment_by_name(name)
    if found is None:
        return None
    if found.lifecycle_stage != "active":
        raise ConfigError(
            f"tracking.experiment_name={name}: deleted in MLflow; restore it there or choose another name"
        )
    return str(found.experiment_id)


def supersede(client: MlflowClient, experiment_id: str, fingerprints: Collection[str]) -> int:
    """Mark the attempts of an experiment at these runs that came to nothing; return their number."""
    found: list[Run] = []
    for status in ("RUNNING", "KILLED"):
        token: str | None = ""
        while token is not None:
            page = client.search_runs([experiment_id], f"attributes.status = '{status}'", page_token=token or None)
            found.extend(page)
            token = page.token or None
    lost = [
        run
        for run in found
        if run.data.tags.get(names.FINGERPRINT) in fingerprints and names.SUPERSEDED not in run.data.tags
    ]
    for run in lost:
        client.set_tag(run.info.run_id, names.SUPERSEDED, "true")
        client.set_terminated(run.info.run_id, "KILLED", run.info.end_time)
        if names.OUTCOME not in run.data.tags:
            _give_back(client, run.info.run_id)
    return len(lost)


def _give_back(client: MlflowClient, run_id: str) -> None:
    """Undo the marks on a run that turns out to have been recorded at that very moment, from another folder or host."""
    run = client.get_run(run_id)
    outcome = run.data.tags.get(names.OUTCOME)
    if outcome is not None:
        client.set_terminated(run_id, "FAILED" if outcome == "failed" else "FINISHED", run.info.end_time)
        client.delete_tag(run_id, names.SUPERSEDED)


class ClientReader:
    """Reads any store through MLflow's client."""

    def __init__(self, client: MlflowClient) -> None:
        self.client = client

    def experiments(self) -> dict[str, str]:
        """Experiments that were not deleted, name → id, those with the newest runs first."""
        ids = {item.name: str(item.experiment_id) for item in self.client.search_experiments()}
        started = {name: max((run.info.start_time for run in self._page(ids[name])), default=0) for name in ids}
        return {name: ids[name] for name in sorted(ids, key=lambda name: (-started[name], name))}

    def _page(self, experiment_id: str) -> list[Run]:
        """The newest run of an experiment, if any."""
        return list(self.client.search_runs([experiment_id], max_results=1))  # MLflow's order: newest first

    def finished(self, experiment_name: str | None) -> list[RunRow]:
        """Runs of an experiment, or of all, that came to a result."""
        found = []
        for run in self._search(experiment_name, "attributes.status = 'FINISHED'"):
            tags = run.data.tags
            if tags.get(names.OUTCOME) in names.FINISHED and names.FINGERPRINT in tags:
                source_hash, started = tags.get(names.SOURCE_HASH, ""), run.info.start_time / 1000
                row = RunRow(tags[names.FINGERPRINT], run.info.run_id, tags[names.OUTCOME], source_hash, started)
                found.append(row)
        return found

    def runs(self, experiment_name: str | None) -> list[Recorded]:
        """Every recorded run, of one experiment or of all."""
        experiments = {item.experiment_id: item.name for item in self.client.search_experiments()}
        return [
            Recorded(
                run_id=run.info.run_id,
                experiment_name=experiments[run.info.experiment_id],
                status=run.info.status,
                name=run.info.run_name,
                started=run.info.start_time,
                parameters=dict(run.data.params),
                metrics={key: number(value) for key, value in run.data.metrics.items()},
                tags=dict(run.data.tags),
            )
            for run in self._search(experiment_name)
            if names.whole(run.info.status, run.data.tags.get(names.OUTCOME))
        ]

    def tags(self, run_ids: Sequence[str]) -> dict[str, dict[str, str]]:
        """The tags of these runs."""
        return {run_id: dict(self.client.get_run(run_id).data.tags) for run_id in run_ids}

    def points(self, tags: dict[str, dict[str, str]]) -> Iterator[CurvePoint]:
        """The points of the curves of these runs."""
        wanted = [
            (run_id, metric) for run_id in tags for metric in names.curve_metrics(tags[run_id].get(names.CURVES, ""))
        ]
        with ThreadPoolExecutor(_REQUESTS) as pool:
            for (run_id, metric), history in zip(wanted, pool.map(self._history, wanted), strict=True):
                for point in history:
                    yield CurvePoint(run_id, metric, point.step, number(point.value))

    def _history(self, wanted: tuple[str, str]) -> list:
        return self.client.get_metric_history(*wanted)

    def _search(self, experiment_name: str | None, filter_string: str = "") -> Iterator[Run]:
        if experiment_name is None:
            ids = [item.experiment_id for item in self.client.search_experiments()]
        else:
            found = self.client.get_experiment_by_name(experiment_name)
            ids = [found.experiment_id] if found is not None and found.lifecycle_stage == "active" else []
        token = None
        while ids:
            page = self.client.search_runs(ids, filter_string, max_results=_PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return
