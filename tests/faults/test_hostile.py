"""Hostile inputs: command lines, configurations and files that want to be a program. None runs, each is refused."""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import pickle
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.stores import copy_store

from goldfish.cli import main
from goldfish.config.config import Config, resolve
from goldfish.errors import ConfigError
from goldfish.sweep.identity import fingerprint
from goldfish.sweep.progress import Report
from goldfish.tracking import ui
from goldfish.tracking.store import Store

CANARY = "executed"


class Evil:
    """Unpickled, it leaves a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(CANARY),)


FILES: dict[str, str] = {  # what somebody else's folder of configurations may hold
    "tag.yaml": "defaults: [settings, _self_]\nx: !!python/object/apply:pathlib.Path.touch [executed]\n",
    "name.yaml": "defaults: [settings, _self_]\nx: !!python/name:os.system\n",
    "broken.yaml": "defaults: [settings, _self_]\nx: [1, 2\n",
    "cell/tag.yaml": "name: !!python/object/apply:pathlib.Path.touch [executed]\n",
}
EXPERIMENTS = {
    "tag": "base: !!python/object/apply:pathlib.Path.touch [executed]\nscales: {cpu: {}}\n",
    "target": "base: {seed: 0, _target_: evil.run}\ngrids: {a: {cell: rnn}}\nscales: {cpu: {}}\n",
    "laughs": "base: {seed: [&a [1, 1, 1], &b [*a, *a, *a], &c [*b, *b, *b], [*c, *c, *c]]}\nscales: {cpu: {}}\n",
}
CASES = (  # the command, with the folder of configurations as {dir}, and what its answer holds
    ("train +hydra.callbacks.x._target_=evil.run", "mean something here"),
    ("train -m seed=0,1 +hydra.callbacks.x._target_=torch.load", "mean something here"),
    ("train -m seed=0,1 +hydra.sweeper.params.x={_target_:evil.run}", "cannot name code"),
    ("train -m seed=0,1 hydra.sweeper.params='${oc.decode:\"{x:{_target_:evil.run}}\"}'", "cannot name code"),
    ("train -m seed=0,1 hydra.sweeper.params='${oc.decode:\"{x:{_tar${x}get_:evil.run}}\"}'", "cannot name code"),
    ("train -m seed=0,1 hydra.launcher._target_=evil.run", "cannot name code"),
    ("train -m seed=0,1 hydra/launcher={_target_:evil.run}", "mean something here"),
    ("train -m seed=0,1 hydra/launcher@hydra.sweeper=evil", "cannot be moved to another package"),
    ("train -m seed=0,1 hydra/launcher=evil", "choices"),
    ("train hydra.sweeper._target_=evil.run", "cannot name code"),
    ("train +hydra.job_logging.handlers.x.class=evil.run", "mean something here"),
    ("train +hydra.hydra_logging={handlers:{x:{class:evil.run}}}", "mean something here"),
    ("train cell={_target_:evil.run}", "unknown key"),
    ("train cell._target_=evil.run", "unknown key"),
    ("train +evil._target_=evil.run", "unknown key"),
    ("train hydra.searchpath=[pkg://evil]", "mean something here"),
    ("train +hydra.job.env_set.LD_PRELOAD=evil.so", "mean something here"),
    ("train cell=../../evil", "choices"),
    ("train task=/etc/passwd", "choices"),
    ("train engine=evil:run", "choices"),
    ("train tracking.experiment_name=../../up", "no path"),
    ("train tracking.experiment_name=a/../../up", "no path"),
    ("train tracking.experiment_name='~root'", "no path"),
    ("train tracking.experiment_name='a\x1b]0;b'", "printable"),
    ("train --config-name ../../../etc/passwd", "--config-name"),
    ("train --config-dir {dir} --config-name tag", "not YAML"),
    ("train --config-dir {dir} --config-name name", "not YAML"),
    ("train --config-dir {dir} --config-name broken", "not YAML"),
    ("train --config-dir {dir} --config-name tag --hydra-help", "not YAML"),
    ("train --config-dir {dir} cell=tag", "not YAML"),
    ("train task=mnist task.data={dir}/data", "cannot be read as parquet"),
    ("reproduce tag", "experiment.yaml"),
    ("reproduce target", "_target_"),
    ("reproduce laughs", "not of lists"),
    ("reproduce ../../up", "no such experiment"),
    ("figures /etc", "no such experiment"),
    ("export --to runs.pkl", "--to"),
    ("export --to ../up/runs.csv", "no such folder"),
    ("ui ../../up", "no store"),
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a module that leaves a file when it is imported, and experiments of somebody else."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr("goldfish.sweep.run.run_sweep", _trains)
    touch = f"from pathlib import Path\nPath({str(folder / CANARY)!r}).touch()\n"
    (folder / "evil.py").write_text(touch)
    for name, text in EXPERIMENTS.items():
        place = folder / "experiments" / name
        place.mkdir(parents=True)
        (place / "experiment.yaml").write_text(text)
        (place / "figure.py").write_text(touch)
    return folder


def _trains(configs: list[Config], **options: Any) -> Report:
    """Every sweep begins with fingerprints, which read real data."""
    return Report(len(configs), tuple(fingerprint(config) for config in configs))


@pytest.fixture
def configurations(tmp_path: Path) -> Path:
    """A folder of configurations of somebody else, and of data."""
    for name, text in FILES.items():
        path = tmp_path / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    data = tmp_path / "conf" / "data"
    data.mkdir()
    for split in ("train", "test"):
        (data / f"{split}.parquet").write_bytes(pickle.dumps(Evil()))
    return tmp_path / "conf"


def test_there_are_enough() -> None:
    assert len(CASES) >= 30


@pytest.mark.parametrize(("command", "holds"), CASES, ids=[command for command, _ in CASES])
def test_refused(
    command: str, holds: str, here: Path, configurations: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(here.rglob("*"))
    code = main([word.replace("{dir}", str(configurations)) for word in command.split()])
    said = capsys.readouterr()
    assert (code, said.out, len(said.err.splitlines())) == (2, "", 1), said
    assert said.err[:-1].isprintable()
    assert holds in said.err
    assert sorted(here.rglob("*")) == before


def test_the_canary_sings(here: Path) -> None:
    """What the tests above look for does happen where somebody lets it."""
    pickle.loads(pickle.dumps(Evil()))
    assert (here / CANARY).exists()


def test_a_pickled_checkpoint(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    from goldfish.training.state import checkpoint

    configs = [resolve({"seed": 0})]
    settings = checkpoint.Checkpointing(here / "checkpoints", ("a",))
    checkpoint.save(settings, configs, "now", 5, {"evil": Evil()})
    with caplog.at_level(logging.WARNING):
        assert checkpoint.newest(settings, configs, "now") is None
    assert len(caplog.records) == 1
    assert "\n" not in caplog.records[0].getMessage()
    assert not (here / CANARY).exists()


@pytest.mark.parametrize("head", [b"", b"goldfish outcome 2\n"], ids=["bare", "with a head"])
def test_a_pickled_outcome(head: bytes, here: Path) -> None:
    from goldfish.training.outcome import loads

    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        loads(head + pickle.dumps(Evil()))
    assert not (here / CANARY).exists()


def test_a_store_of_somebody_else_cannot_command_the_terminal(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goldfish.inspect.status.status", lambda: ([], ["a\x1b[2J", "b\u202e"]))
    assert main(["status"]) == 0
    assert capsys.readouterr().out == "a\\x1b[2J\nb\\u202e\n"


@pytest.mark.parametrize("name", ["../../up", "/etc/up", "..", "a/../../b", "CON\x00", "~/x", "-rf"])
def test_artifacts_stay_below_their_folder(name: str) -> None:
    from goldfish.tracking.names import slug

    place = Path("/store/mlruns") / slug(name)
    assert Path(os.path.normpath(place)).parent == Path("/store/mlruns")
    assert not slug(name).startswith(("-", "."))


def loosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that asks MLflow's server to trust anybody."""
    for name, value in (("DISABLE_SECURITY_MIDDLEWARE", "true"), ("ALLOWED_HOSTS", "*"), ("CORS_ALLOWED_ORIGINS", "*")):
        monkeypatch.setenv(f"MLFLOW_SERVER_{name}", value)
    monkeypatch.setenv("MLFLOW_HOST", "0.0.0.0")
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--bind 0.0.0.0")


def test_the_ui_keeps_its_checks(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment says, the UI listens on loopback and refuses foreign hosts and origins."""
    loosen(monkeypatch)
    started: dict[str, Any] = {}

    def popen(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        started.update(options, command=command)
        raise ConfigError("not started")

    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(ConfigError, match="not started"), ui.running(Store()):
        pass
    command, environment = started["command"], started["env"]
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert not {"--gunicorn-opts", "--waitress-opts", "--uvicorn-opts", "--disable-security-middleware"} & set(command)
    assert [key for key in environment if key.startswith(("MLFLOW_SERVER_", "MLFLOW_HOST", "GUNICORN"))] == [
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"
    ]


@pytest.mark.slow
def test_the_ui_refuses_foreign_pages(template: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that somebody else's site opens in the user's browser can neither read nor change anything."""
    loosen(monkeypatch)
    store = copy_store(template, here)
    search = ("POST", "/ajax-api/2.0/mlflow/experiments/search", '{"max_results": 1}')
    create = ("POST", "/ajax-api/2.0/mlflow/experiments/create", '{"name": "planted"}')
    with ui.running(store, port=5600) as server:
        own = server.base.removeprefix("http://")
        assert _status(own, search) == 200
        assert _status(own, search, Host="evil.example") == 403
        assert _status(own, create, Origin="http://evil.example") == 403
    assert "planted" not in store.experiments()


def _status(address: str, request: tuple[str, str, str], **headers: str) -> int:
    method, path, body = request
    connection = http.client.HTTPConnection(address, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path, body, {"Content-Type": "application/json", **headers})
        return connection.getresponse().status
