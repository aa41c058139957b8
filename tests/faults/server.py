"""A real MLflow server on PostgreSQL, on loopback: each can be stopped and started again, and the database asked."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
_PATIENCE = 120  # seconds until a server must answer


def missing() -> str:
    """What is not installed that the server needs; nothing where all is there."""
    if binaries() is None:
        return "PostgreSQL is not installed (apt-get install postgresql)"
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg is not installed (psycopg[binary])"
    if os.getuid() == 0 and shutil.which("setpriv") is None:
        return "PostgreSQL does not run as root, and there is no setpriv to become somebody else"
    return ""


def binaries() -> Path | None:
    """The folder of initdb and postgres: Debian does not put them on the PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    return next((folder for folder in folders if (folder / "postgres").exists()), None)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class Database:
    """PostgreSQL in a folder of its own: pytest's are the tester's alone. Where the tests run as root, it is nobody."""

    def __init__(self) -> None:
        place = binaries()
        assert place is not None
        self.place, self.port = place, free_port()
        self.folder = folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self.process: subprocess.Popen[bytes] | None = None
        self._as = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.getuid() == 0 else []
        if self._as:
            os.chown(folder, 65534, 65534)
        options = ["--auth=trust", "--username=mlflow", "--encoding=UTF8", "--no-sync", "--locale=C"]
        self._run("initdb", "-D", str(folder / "data"), *options)

    @property
    def uri(self) -> str:
        """For MLflow."""
        return f"postgresql://mlflow@{HOST}:{self.port}/postgres"

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as, str(self.place / program), *arguments]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Start, and return once it answers."""
        options = ["-p", str(self.port), "-h", HOST, "-k", "", "-F", "-c", "log_min_messages=error"]
        command = [*self._as, str(self.place / "postgres"), "-D", str(self.folder / "data"), *options]
        file = self.folder / "log"
        with file.open("ab") as log:
            self.process = subprocess.Popen(command, cwd="/", stdout=log, stderr=log, start_new_session=True)
        end = time.monotonic() + _PATIENCE
        while not self._answers():
            assert self.process.poll() is None, file.read_text()[-2000:]
            assert time.monotonic() < end, file.read_text()[-2000:]
            time.sleep(0.1)

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.uri).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """Stop at once, as on a crash: what was committed is there again after the start."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait()
            self.process = None

    def remove(self) -> None:
        """Stop, and leave nothing."""
        self.stop()
        shutil.rmtree(self.folder)

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows that the database answers with."""
        import psycopg

        connection = psycopg.connect(self.uri)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall())
        finally:
            connection.close()


class Server:
    """`mlflow server` over a database, on a port of its own."""

    def __init__(self, folder: Path, database_uri: str) -> None:
        self.folder, self.database_uri, self.port = folder, database_uri, free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """Its address."""
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        """Start, and return once it answers."""
        files = ["--artifacts-destination", str(self.folder / "files"), "--host", HOST, "--port", str(self.port)]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", "--workers", "1", *files],
                cwd=self.folder,
                env=os.environ
                | {
                    "MLFLOW_BACKEND_STORE_URI": self.database_uri,
                    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                    "MLFLOW_DISABLE_TELEMETRY": "true",
                },
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + _PATIENCE
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "server.log").read_text()[-2000:]
            assert time.monotonic() < end, (self.folder / "server.log").read_text()[-2000:]
            time.sleep(0.2)

    def answers(self) -> bool:
        """Whether it says that it is well."""
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        """Kill it, with all its children."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
