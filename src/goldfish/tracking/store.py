"""The store of runs: MLflow's SQLite file in the working directory, or whatever MLFLOW_TRACKING_URI names."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from goldfish.errors import ConfigError, nearest
from goldfish.tracking import client, names, run, sql, tables
from goldfish.tracking.client import ClientReader, without_password
from goldfish.tracking.provenance import tags
from goldfish.tracking.run import NewRun, Run

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

    from goldfish.training.outcome import Outcome

URI = "MLFLOW_TRACKING_URI"
_EXPECTED = "sqlite:///path/mlflow.db, another database's URI or a server's http://…"
_SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")
_DRIVERS = {"psycopg": "'psycopg[binary]'", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
_PATIENCE = 600  # seconds to wait for another process that creates or migrates


class Store:
    """Where runs are recorded, each once, and read back.

    Args:
        uri: an MLflow tracking URI: sqlite:///…, postgresql://…, http://… By default MLFLOW_TRACKING_URI, else the file
            mlflow.db in `root`.
        root: a folder, the working directory by default. Artifacts of an SQLite store lie in mlruns/ beside its file,
            those of another database in mlruns/ in `root`; a server keeps its own.

    Raises ConfigError for a URI that MLflow does not keep runs in.
    """

    def __init__(self, uri: str | None = None, root: Path | None = None) -> None:
        self._root = root = Path.cwd() if root is None else Path(root).absolute()
        self.uri = _checked(uri or os.environ.get(URI) or sql.uri_of(root / "mlflow.db"))
        path = sql.database(self.uri)
        self.path = None if path is None else path.absolute()
        if self.path is not None:
            self.uri = sql.uri_of(self.path)  # a relative one would follow the working directory
        self.remote = self.uri.startswith(("http://", "https://", "databricks"))
        self.artifacts = None if self.remote else (self.path.parent if self.path else root) / "mlruns"
        self._client: MlflowClient | None = None
        self._experiments: dict[str, str] = {}
        self._answered = not self.uri.startswith("http")

    @property
    def state(self) -> Path:
        """The folder of what goldfish itself keeps beside the store: claims, checkpoints, outcomes not yet recorded."""
        if self.path is not None:
            return self.path.parent / "mlruns" / ".goldfish"
        return self._root / "mlruns" / ".goldfish" / hashlib.sha256(self.uri.encode()).hexdigest()[:16]

    @property
    def client(self) -> MlflowClient:
        """MLflow's client; the first call imports MLflow, and creates a store that is not there."""
        if self._client is None:
            if not self.exists():
                self.prepare()
            try:
                self._client = client.connect(self.uri)
            except ModuleNotFoundError as error:
                head = f"{URI}={without_password(self.uri)}: needs the driver '{error.name}', which is not installed"
                raise ConfigError(f"{head}; pip install {_DRIVERS.get(error.name or '', error.name)}") from error
        return self._client

    def exists(self) -> bool:
        """True when there is a store to look into.

        A database that is no file is taken to be there, and so is a server that answers; else ConfigError is raised.
        """
        if self.path is not None:
            return sql.exists(self.path)
        if not self._answered:
            _ask(self.uri)
            self._answered = True
        return True

    def check(self) -> None:
        """Raise OSError where nothing could be recorded: a folder without write access, or a full disk."""
        wanted = self.path.parent if self.path is not None else self._root
        folder = next(place for place in (wanted, *wanted.parents) if place.exists())
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise OSError(error.errno, os.strerror(error.errno or 0), str(folder)) from error
        if self.path is not None and not self.path.exists():
            client.check_room(folder)

    def prepare(self) -> None:
        """Create the store, or bring its tables up to date, once, whoever else tries at the same time."""
        if self.artifacts is None:
            return
        with self._locked():
            if self.path is not None and not self.path.exists():
                client.create(self.path, self.artifacts)
                return
            if self.path is not None and sql.exists(self.path) and sql.moved(self.path, self.artifacts):
                sql.relocate(self.path, self.artifacts)
            client.migrate(self.uri, self.artifacts)

    def finished(self, experiment_name: str | None, fingerprints: Iterable[str] | None = None) -> dict[str, Run]:
        """The runs of an experiment, or of all, that came to a result, by fingerprint; the newest of several.

        Of their tags they have fingerprint, outcome and source hash, and nothing else.
        """
        tags = (names.FINGERPRINT, names.OUTCOME, names.SOURCE_HASH)
        order = sorted(self._runs(experiment_name, tags), key=lambda item: (item.started, item.run_id))
        results = {item.fingerprint: item for item in order if item.outcome in names.FINISHED}
        wanted = results.keys() if fingerprints is None else set(fingerprints)
        return {key: item for key, item in results.items() if key in wanted}

    def attempts(self, experiment_name: str | None = None) -> list[Run]:
        """Every attempt at a run, whatever became of it, of one experiment or of all, oldest first, without metrics."""
        return sorted(self._runs(experiment_name, names.TOLD, more=["params"]), key=lambda item: item.started)

    def record(
        self,
        outcome: Outcome,
        *,
        experiment_name: str,
        sweep: str,
        fingerprint: str,
        source_hash: str,
        provenance: Mapping[str, str],
        since: float = 0.0,
    ) -> str:
        """Record one outcome and return the id of its MLflow run.

        Args:
            outcome: solved, unsolved and diverged ones become FINISHED runs, failed ones FAILED.
            experiment_name: the MLflow experiment, created when it is not there.
            sweep: which sweep it was part of.
            fingerprint: 64 hex digits (goldfish.sweep.identity).
            source_hash: 64 hex digits (goldfish.sweep.identity).
            provenance: of goldfish.tracking.provenance.collect().
            since: unix time in seconds; through MLflow's client, a result of the same run that another process has
                recorded and that ended later stands for this one, and its id is returned.

        Whatever goes wrong is raised, and the run is then marked KILLED: it never looks like a result, and recording
        the same outcome again goes on with it.
        """
        new = run.new_run(outcome, _identity(fingerprint, sweep, source_hash, provenance), since)
        return self._write(experiment_name, new, lambda folder: run.write_artifacts(outcome, folder))

    def record_interrupted(
        self,
        config: Mapping[str, Any],
        *,
        experiment_name: str,
        sweep: str,
        fingerprint: str,
        source_hash: str,
        provenance: Mapping[str, str],
        reason: str,
        started: float,
    ) -> str:
        """Record an attempt that was broken off and return the id of its MLflow run, which ends KILLED.

        It has no outcome, and is in no table. Arguments as `record`; `reason` is one line, `started` a unix time in
        seconds.
        """
        identity = _identity(fingerprint, sweep, source_hash, provenance)
        new = run.interrupted_run(config, identity, reason, started, time.time())
        return self._write(experiment_name, new, lambda folder: None)

    def _write(self, experiment_name: str, new: NewRun, artifacts: Callable[[Path], None]) -> str:
        """Write a run straight into an SQLite file where that is possible, else through MLflow's client."""
        experiment = self.experiment(experiment_name)
        run_id = None if self.path is None else sql.write(self.path, experiment, new, artifacts)
        return run_id or client.write(self.client, experiment, new, artifacts)

    def supersede(self, experiment_name: str, fingerprints: Iterable[str]) -> int:
        """Mark the attempts at these runs that came to nothing, and return their number.

        Those that are KILLED, or RUNNING although their process is gone, end KILLED with the tag goldfish.superseded.
        """
        tried, wanted = (
            self._runs(experiment_name, (names.FINGERPRINT, names.OUTCOME, names.SUPERSEDED)),
            set(fingerprints),
        )
        lost = [item for item in tried if item.fingerprint in wanted]
        return client.supersede(self.client, lost) if lost else 0

    def runs(self, experiment_name: str | None = None) -> pd.DataFrame:
        """One row per recorded run, oldest first, of one experiment or of all.

        Columns: run_id, fingerprint, experiment_name, sweep, outcome, reason, source_hash, status, started, name; the
        flat configuration with its types (cell, init, task, …, task.length, init.gain); metrics by name; parameters,
        seconds, steps, packed.
        """
        known = self._runs(experiment_name, more=["params", "metrics"])
        return tables.runs_frame(item for item in known if item.outcome)

    def curves(self, run_ids: Iterable[str] | None = None) -> pd.DataFrame:
        """Every point of the curves of these runs: fingerprint, quantity, phase, x, value, from MLflow's metrics alone.

        By default of the newest finished run of each fingerprint.
        """
        if run_ids is None:
            run_ids = [item.run_id for item in self.finished(None).values()]
        known = {item.run_id: item for item in self._runs(None, (names.FINGERPRINT, names.CURVES))}
        chosen = [known[run_id] for run_id in run_ids if run_id in known]
        curves = {item.run_id: names.curve_metrics(item.tags.get(names.CURVES, "")) for item in chosen}
        return tables.curves_frame(self._reader().points(curves) if chosen else [], chosen)

    def run_artifacts(self, run_id: str) -> Path:
        """The folder of a run's artifacts; of a store that is not on this machine, a copy."""
        return Path(self.client.download_artifacts(run_id, ""))

    def experiment(self, name: str) -> str:
        """The id of an MLflow experiment, which is created when it is not there."""
        if name not in self._experiments:
            self._experiments[name] = self._find_or_create(name)
        return self._experiments[name]

    def experiments(self) -> dict[str, str]:
        """The ids of the MLflow experiments by name, those with the newest runs first."""
        return self._reader().experiments() if self.exists() else {}

    def _find_or_create(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        experiment_id = client.find(self.client, name)
        if experiment_id is not None:
            return experiment_id
        place = None if self.artifacts is None else (self.artifacts / names.slug(name)).as_uri()
        try:
            return str(self.client.create_experiment(name, artifact_location=place))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return str(client.find(self.client, name))  # another process was faster

    def _runs(self, experiment: str | None, tags: Collection[str] = (), *, more: Collection[str] = ()) -> list[Run]:
        return self._reader().runs(experiment, tags, more=more) if self.exists() else []

    def _reader(self) -> sql.SqlReader | ClientReader:
        return ClientReader(self.client) if self.path is None else sql.SqlReader(self.path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock that lets only one process at a time create or migrate the store."""
        from filelock import FileLock

        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = self.path.with_name(f"{self.path.name}.lock")
        else:
            lock = Path(tempfile.gettempdir()) / f"goldfish-{hashlib.sha256(self.uri.encode()).hexdigest()[:16]}.lock"
        try:
            with FileLock(lock, timeout=_PATIENCE):
                yield
        finally:
            if self.path is not None and not self.path.exists():
                lock.unlink(missing_ok=True)  # no store has come of it


def _identity(fingerprint: str, sweep: str, source_hash: str, provenance: Mapping[str, str]) -> dict[str, str]:
    """The tags that say which run it is, and what made it."""
    identity = {names.FINGERPRINT: fingerprint, names.SWEEP: sweep, names.SOURCE_HASH: source_hash}
    return identity | tags(provenance)


def _checked(uri: str) -> str:
    """The URI in its canonical spelling. Raises ConfigError for one that MLflow keeps no runs in."""
    scheme, colon, rest = uri.partition(":")
    if (not colon and scheme != "databricks") or scheme.lower() == "file":
        raise ConfigError(f"{URI}={uri}: MLflow keeps no runs in folders any more; expected {_EXPECTED}")
    dialect, plus, driver = scheme.partition("+")
    if dialect.lower() not in _SCHEMES:
        named = nearest(dialect.lower(), _SCHEMES)
        raise ConfigError(f"{URI}={without_password(uri)}: {dialect}: no kind of store; {named}")
    uri = f"{dialect.lower()}{plus}{driver}{colon}{rest}"
    if dialect.lower() == "sqlite" and (sql.database(uri) is None or rest.strip("/") in ("", ":memory:")):
        raise ConfigError(f"{URI}={uri}: names no file; expected {_EXPECTED}")
    return _address(uri) if dialect.lower() in ("http", "https") else uri


def _address(uri: str) -> str:
    """A server's address without what makes no difference: capitals, the default port, slashes at its end."""
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{URI}={without_password(uri)}: no address: {error}; expected {_EXPECTED}") from error
    if not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f"{URI}={without_password(uri)}: no address of a server; expected {_EXPECTED}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    user, at, _ = parts.netloc.rpartition("@")
    usual = {"http": 80, "https": 443}[parts.scheme]
    place = host if port in (None, usual) else f"{host}:{port}"
    return f"{parts.scheme}://{user}{at}{place}{parts.path.rstrip('/')}"


def _ask(uri: str) -> None:
    """Raise ConfigError, at once and in one line, when a tracking server does not answer: MLflow tries for minutes."""
    import urllib.error
    import urllib.request

    try:
        parts = urlsplit(uri)  # urllib takes user and password for a part of the host's name
        anonymous = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        with urllib.request.urlopen(f"{anonymous}/health", timeout=10):
            pass
    except urllib.error.HTTPError as error:
        error.close()  # an answer, such as "log in first"
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise ConfigError(f"{URI}={without_password(uri)}: this server does not answer ({reason})") from error
