"""Where a store lies: what an address may be, and what is said of one that keeps no runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from goldfish.errors import ConfigError
from goldfish.tracking.client import without_password
from goldfish.tracking.store import Store


def test_the_store_is_that_of_the_environment_or_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert Store().path == tmp_path / "mlflow.db"
    assert Store().artifacts == tmp_path / "mlruns"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///elsewhere/runs.db")
    assert Store().path == tmp_path / "elsewhere" / "runs.db"
    assert Store().artifacts == tmp_path / "elsewhere" / "mlruns"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000")
    assert Store().path is None
    assert Store().remote


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("./mlruns", "expected sqlite:///"),
        ("mlruns", "expected sqlite:///"),
        ("file:///tmp/mlruns", "expected sqlite:///"),
        ("FILE:/tmp/mlruns", "expected sqlite:///"),
        ("sqlite://", "names no file; expected sqlite:///"),
        ("sqlite:///", "names no file; expected sqlite:///"),
        ("sqlite://host", "names no file; expected sqlite:///"),
        ("sqlite:runs.db", "names no file; expected sqlite:///"),
        ("sqlite:///:memory:", "names no file; expected sqlite:///"),
        ("https://[::1", "no address: Invalid IPv6 URL; expected sqlite:///"),
        ("http://h:99999", "no address: Port out of range 0-65535; expected sqlite:///"),
        ("http://", "no address of a server; expected sqlite:///"),
        ("http://h/?a=b", "no address of a server; expected sqlite:///"),
        ("foo://bar", "foo: no kind of store; choices: databricks, http"),
        ("postgres://me:secret@h/runs", "postgres: no kind of store; did you mean 'postgresql'?"),
        ("htp://h:1", "htp: no kind of store; did you mean 'http'?"),
    ],
)
def test_a_uri_that_keeps_no_runs_is_refused_in_one_line(uri: str, told: str):
    with pytest.raises(ConfigError, match=r"^MLFLOW_TRACKING_URI=") as caught:
        Store(uri)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("spellings", "uri"),
    [
        (("http://h:1", "http://h:1/", "HTTP://H:1//"), "http://h:1"),
        (("http://h", "http://h:80/", "http://H"), "http://h"),
        (("https://h/mlflow", "https://h:443/mlflow/"), "https://h/mlflow"),
        (("http://me:Secret@H:1/", "http://me:Secret@h:1"), "http://me:Secret@h:1"),
        (("http://[::1]:5/", "HTTP://[::1]:5"), "http://[::1]:5"),
        (("sqlite:////x.db", "SQLITE:////x.db", "Sqlite:////x.db"), "sqlite:////x.db"),
    ],
)
def test_one_store_has_one_name_and_one_state(spellings: tuple[str, ...], uri: str, tmp_path: Path):
    stores = [Store(spelling, root=tmp_path) for spelling in spellings]
    assert {store.uri for store in stores} == {uri}
    assert len({store.state for store in stores}) == 1


@pytest.mark.parametrize("dialect", ["mysql", "mssql+pyodbc"])
def test_a_database_without_its_driver_is_told_in_one_line(dialect: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"me:…@127.0.0.1/runs: needs the driver '\w+', which is not installed; pip"):
        _ = Store(f"{dialect}://me:secret@127.0.0.1/runs", root=tmp_path).client


def test_a_server_that_does_not_answer_is_told_at_once():
    with pytest.raises(
        ConfigError, match=r"^MLFLOW_TRACKING_URI=http://me:…@127.0.0.1:9: this server does not answer .*refused"
    ):
        Store("http://me:secret@127.0.0.1:9/").exists()


def test_a_password_is_not_shown():
    assert without_password("postgresql://me:secret@db/runs") == "postgresql://me:…@db/runs"
    assert without_password("sqlite:////home/me/mlflow.db") == "sqlite:////home/me/mlflow.db"
