"""MLflow's UI, served on this machine for the current store, and the links that open it in a prepared view."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

from goldfish.errors import ConfigError
from goldfish.tracking import views
from goldfish.tracking.store import Store

HOST = "127.0.0.1"
PORT = 5000
_PATIENCE = 120  # seconds until the server must answer
# Settings of servers, which may open it to others or switch its checks off: none is inherited.
_SERVERS = ("MLFLOW_SERVER_", "MLFLOW_HOST", "MLFLOW_PORT", "GUNICORN_", "UVICORN_", "FORWARDED_")


class Server(NamedTuple):
    """A running UI: its address and its process."""

    base: str
    process: subprocess.Popen[bytes]


def serve(
    experiment_name: str | None = None, *, store: Store | None = None, port: int = PORT, open_browser: bool = False
) -> int:
    """Start MLflow's UI on loopback, print the links into the prepared views, and wait until Ctrl-C.

    Args:
        experiment_name: the MLflow experiment to open; by default the one with the newest runs.
        store: the store of the working directory or of MLFLOW_TRACKING_URI by default.
        port: the first port to try; the next free one is taken.
        open_browser: open the first view in the user's browser too.

    Returns the exit code. For a server elsewhere the links are printed and nothing is started. Raises ConfigError when
    there is no store, no such experiment, or the UI does not start.
    """
    store = store or Store()
    name = experiment_name or _newest(store)
    views.experiment(store, name)  # refuse before anything starts
    store.prepare()
    views.prepare_views(store, name)
    if store.remote:
        print(_links(store, name, store.uri))
        return 0
    with running(store, port) as server:
        print(f"{_links(store, name, server.base)}\n\nCtrl-C stops the UI.", flush=True)
        if open_browser:
            webbrowser.open(views.link(server.base, views.experiment(store, name), views.AVERAGES))
        with contextlib.suppress(KeyboardInterrupt):
            return server.process.wait()
    return 0


@contextlib.contextmanager
def running(store: Store, port: int = PORT) -> Iterator[Server]:
    """Run MLflow's UI in a process of its own: the block begins once it answers, and it is stopped at the end."""
    port = free_port(port)
    assert store.artifacts is not None
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--default-artifact-root", store.artifacts.as_uri(), "--no-serve-artifacts"]
    settings = {
        "MLFLOW_BACKEND_STORE_URI": store.uri,  # not on the command line: it may hold a password
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(_SERVERS)}
    with tempfile.TemporaryDirectory(prefix="goldfish-ui-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output, _stoppable():
            process = subprocess.Popen(
                command,
                env=inherited | settings,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches us alone, and we stop it with all its children
            )
            try:
                _wait(process, port, log)
                yield Server(f"http://{HOST}:{port}", process)
            finally:
                _stop(process)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C, so that the server does not outlive us."""

    def interrupt(number: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def free_port(wanted: int) -> int:
    """The first free port of this machine from `wanted` on. Raises ConfigError when none of a hundred is."""
    for port in range(wanted if wanted > 0 else 65536, min(wanted + 100, 65536)):
        with contextlib.closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((HOST, port))
                return port
    raise ConfigError(f"--port={wanted}: no free port from there on; expected one from 1 to 65535")


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Return once the server answers. Raises ConfigError with the last line of its log when it does not."""
    deadline = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection(HOST, port, timeout=5)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/health")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        time.sleep(0.1)
    lines = log.read_text(errors="replace").strip().splitlines()
    raise ConfigError(f"--port={port}: MLflow's UI did not start: {lines[-1] if lines else 'it said nothing'}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the server and its children, by SIGTERM and, where that does not help, by SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
            return


def _newest(store: Store) -> str:
    """The experiment whose runs are the newest."""
    if not store.exists():
        raise ConfigError(f"there is no store at {store.path}; goldfish train makes one")
    return next(iter(store.experiments()), "Default")


def _links(store: Store, name: str, base: str) -> str:
    """The links to both views, one below the other."""
    experiment = views.experiment(store, name)
    lines = [f"{name} in the MLflow UI"]
    for key, title in views.TITLES.items():
        lines += ["", f"  {title}", f"  {views.link(base, experiment, key)}"]
    return "\n".join(lines)
