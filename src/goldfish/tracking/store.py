"""The store of runs: MLflow's SQLite file in the working directory, or whatever MLFLOW_TRACKING_URI names."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from goldfish.errors import ConfigError, nearest
from goldfish.tracking import names, rows
from goldfish.tracking.rows import RunRow
from goldfish.tracking.sqlite import SqliteReader, database, uri_of

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

    from goldfish.tracking.client import ClientReader
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
        self.uri = _checked(uri or os.environ.get(URI) or uri_of(root / "mlflow.db"))
        path = database(self.uri)
        self.path = None if path is None else path.absolute()
        if self.path is not None:
            self.uri = uri_of(self.path)  # a relative one would follow the working directory
        self.remote = self.uri.startswith(("http://", "https://", "databricks"))
        self.artifacts = None if self.remote else (self.path.parent if self.path else root) / "mlruns"
        self._client: MlflowClient | None = None
        self._experiments: dict[str, str] = {}
        self._answered = not self.uri.startswith(("http://", "https://"))

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
            from goldfish.tracking.client import connect

            if not self.exists():
                self.prepare()
            try:
                self._client = connect(self.uri)
            except ModuleNotFoundError as error:
                head = f"{URI}={without_password(self.uri)}: needs the driver '{error.name}', which is not installed"
                raise ConfigError(f"{head}; pip install {_DRIVERS.get(error.name or '', error.name)}") from error
        return self._client

    def exists(self) -> bool:
        """True when there is a store to look into.

        A database that is no file is taken to be there, and so is a server that answers; else ConfigError is raised.
        """
        if self.path is not None:
            return SqliteReader(self.path).exists()
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
            from goldfish.tracking.migrations import check_room

            check_room(folder)

    def prepare(self) -> None:
        """Create the store, or bring its tables up to date, once, whoever else tries at the same time."""
        if self.artifacts is not None:
            from goldfish.tracking.migrations import prepare

            with self._locked():
                prepare(self.uri, self.path, self.artifacts)

    def finished(self, experiment_name: str, fingerprints: Iterable[str] | None = None) -> dict[str, RunRow]:
        """The runs of an experiment that came to a result, by fingerprint; the newest of several."""
        if not self.exists():
            return {}
        found = rows.newest(self._reader().finished(experiment_name))
        if fingerprints is None:
            return found
        wanted = set(fingerprints)
        return {fingerprint: row for fingerprint, row in found.items() if fingerprint in wanted}

    def record(
        self,
        outcome: Outcome,
        *,
        experiment_name: str,
        sweep: str,
        fingerprint: str,
        source_hash: str,
        provenance: Mapping[str, str],
        dataset: Mapping[str, str] | None = None,
        since: float = 0.0,
    ) -> str:
        """Record one outcome and return the id of its MLflow run.

        Args:
            outcome: solved, unsolved and diverged ones become FINISHED runs, failed ones FAILED.
            experiment_name: the MLflow experiment, created when it is not there.
            sweep: which sweep it was part of.
            fingerprint: 64 hex digits (goldfish.sweep.fingerprint).
            source_hash: 64 hex digits (goldfish.sweep.source).
            provenance: of goldfish.tracking.provenance.collect().
            dataset: the run's data: name, digest, source and optionally schema and profile, as texts.
            since: unix time in seconds; through MLflow's client, a result of the same run that another process has
                recorded and that ended later stands for this one, and its id is returned.

        Whatever goes wrong is raised, and the run is then marked KILLED: it never looks like a result, and recording
        the same outcome again goes on with it.
        """
        from goldfish.tracking.provenance import tags
        from goldfish.tracking.recording import record

        identity = {names.FINGERPRINT: fingerprint, names.SWEEP: sweep, names.SOURCE_HASH: source_hash}
        experiment = self.experiment(experiment_name)
        return record(self.client, self.path, experiment, outcome, identity | tags(provenance), dataset, since)

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
        from goldfish.tracking.new_run import interrupted_run
        from goldfish.tracking.provenance import tags
        from goldfish.tracking.recording import write

        identity = {names.FINGERPRINT: fingerprint, names.SWEEP: sweep, names.SOURCE_HASH: source_hash}
        run = interrupted_run(config, identity | tags(provenance), reason, started, time.time())
        return write(self.client, self.path, self.experiment(experiment_name), run, lambda folder: None)

    def supersede(self, experiment_name: str, fingerprints: Iterable[str]) -> int:
        """Mark the attempts at these runs that came to nothing, and return their number.

        Those that are KILLED, or RUNNING although their process is gone, end KILLED with the tag goldfish.superseded.
        """
        from goldfish.tracking.client import supersede

        if not self.exists():
            return 0
        return supersede(self.client, self.experiment(experiment_name), set(fingerprints))

    def runs(self, experiment_name: str | None = None) -> pd.DataFrame:
        """One row per recorded run, oldest first, of one experiment or of all.

        Columns: run_id, fingerprint, experiment_name, sweep, outcome, reason, source_hash, status, started, name; the
        flat configuration with its types (cell, init, task, …, task.length, init.gain); metrics by name; parameters,
        seconds, steps, packed.
        """
        return rows.runs_frame(self._reader().runs(experiment_name) if self.exists() else [])

    def curves(
        self, fingerprints: Iterable[str] | None = None, *, run_ids: Iterable[str] | None = None
    ) -> pd.DataFrame:
        """Every point of the runs' curves: fingerprint, quantity, phase, x, value, from MLflow's metrics alone.

        The runs are given by their ids, or by fingerprints: then the newest finished run of each. Neither: of all.
        """
        if not self.exists():
            return rows.curves_frame([], {})
        if run_ids is None:
            run_ids = self._newest(None if fingerprints is None else list(fingerprints))
        reader = self._reader()
        tags = reader.tags(list(run_ids))
        return rows.curves_frame(reader.points(tags), tags)

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

        from goldfish.tracking.client import find
        from goldfish.tracking.recording import slug

        found = find(self.client, name)
        if found is not None:
            return found
        place = None if self.artifacts is None else (self.artifacts / slug(name)).as_uri()
        try:
            return str(self.client.create_experiment(name, artifact_location=place))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return str(find(self.client, name))  # another process was faster

    def _newest(self, fingerprints: list[str] | None) -> list[str]:
        """Ids of the newest finished run of each fingerprint, in their order."""
        found = rows.newest(self._reader().finished(None))
        return [found[key].run_id for key in (found if fingerprints is None else fingerprints) if key in found]

    def _reader(self) -> SqliteReader | ClientReader:
        if self.path is not None:
            return SqliteReader(self.path)
        from goldfish.tracking.client import ClientReader

        return ClientReader(self.client)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Only one process at a time creates or migrates."""
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


def _checked(uri: str) -> str:
    """A URI in its one spelling. What MLflow keeps no runs in is refused in one line."""
    scheme, colon, rest = uri.partition(":")
    if (not colon and scheme != "databricks") or scheme.lower() == "file":
        raise ConfigError(f"{URI}={uri}: MLflow keeps no runs in folders any more; expected {_EXPECTED}")
    dialect, plus, driver = scheme.partition("+")
    if dialect.lower() not in _SCHEMES and scheme not in _added():
        named = nearest(dialect.lower(), _SCHEMES)
        raise ConfigError(f"{URI}={without_password(uri)}: {dialect}: no kind of store; {named}")
    if scheme not in _added():
        uri = f"{dialect.lower()}{plus}{driver}{colon}{rest}"
    if dialect.lower() == "sqlite" and (database(uri) is None or rest.strip("/") in ("", ":memory:")):
        raise ConfigError(f"{URI}={uri}: names no file; expected {_EXPECTED}")
    return _address(uri) if dialect.lower() in ("http", "https") else uri


def _added() -> set[str]:
    """The schemes of stores that other packages add to MLflow."""
    return {entry.name for entry in importlib.metadata.entry_points(group="mlflow.tracking_store")} - {"file-plugin"}


def _address(uri: str) -> str:
    """A server's address without what does not matter: capitals, a usual port, slashes at its end."""
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
        with urllib.request.urlopen(f"{_anonymous(uri)}/health", timeout=10):
            pass
    except urllib.error.HTTPError as error:
        error.close()  # an answer, such as "log in first"
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise ConfigError(f"{URI}={without_password(uri)}: this server does not answer ({reason})") from error


def _anonymous(uri: str) -> str:
    """The address without user and password, which urllib takes for a part of the host's name."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def without_password(uri: str) -> str:
    """A URI that may be shown."""
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:…@", uri)
