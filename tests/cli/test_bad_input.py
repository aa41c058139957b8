"""Bad input: one line, exit code 2, without torch, and nothing is left behind.

All cases run in one fresh process, which tells what each said and which heavy modules were imported by the end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CASES = [  # the command, and what its answer begins with and holds
    ("train cel=lstm", "cel=lstm:", "did you mean 'cell'"),
    ("train hidden_size=3", "hidden_size=3:", "'cell.hidden_size'"),
    ("train cell.hiden_size=3", "cell.hiden_size=3:", "did you mean 'hidden_size'"),
    ("train trainer.max_step=3", "trainer.max_step=3:", "did you mean 'max_steps'"),
    ("train tracking.name=x", "tracking.name=x:", "experiment_name"),
    ("train cell=lstm cell.nonlinearity=relu", "cell.nonlinearity=relu:", "it belongs to cell=rnn"),
    ("train cell=lstn", "cell=lstn:", "did you mean 'lstm'"),
    ("train init=ortogonal", "init=ortogonal:", "did you mean 'orthogonal'"),
    ("train task=recal", "task=recal:", "did you mean 'recall'"),
    ("train optimizer=adan", "optimizer=adan:", "did you mean 'adam'"),
    ("train trainer=tpu", "trainer=tpu:", "did you mean 'gpu'"),
    ("train cell.nonlinearity=tan", "cell.nonlinearity=tan:", "did you mean 'tanh'"),
    ("train engine=eagr", "engine=eagr:", "did you mean 'eager'"),
    ("train trainer.accelerator=tpu", "trainer.accelerator=tpu:", "did you mean 'gpu'"),
    ("train seed=one", "seed=one:", "expected int"),
    ("train seed=1.5", "seed=1.5:", "expected int"),
    ("train cell.hidden_size=true", "cell.hidden_size=", "expected int"),
    ("train optimizer.lr=fast", "optimizer.lr=fast:", "expected float > 0"),
    ("train trainer.max_steps=null", "trainer.max_steps=", "expected int"),
    ("train task.length=[1,2]", "task.length=", "expected int"),
    (f"train optimizer.lr={'9' * 400}", "optimizer.lr=999", "expected a finite float > 0"),
    (f"train optimizer.lr=-{'9' * 5000}", "optimizer.lr=-999", "a number of so many digits"),
    (f"train seed={'9' * 5000}", "seed=999", "a number of so many digits"),
    (f"train -m seed=0,{'9' * 400}", "seed=999", "at most 64 bits"),
    ("train task.length=0", "task.length=0:", "≥ 1"),
    ("train optimizer.lr=-1", "optimizer.lr=-1", "> 0"),
    ("train optimizer.lr=nan", "optimizer.lr=nan:", "finite"),
    ("train optimizer.lr=inf", "optimizer.lr=inf:", "finite"),
    ("train cell.hidden_size=0", "cell.hidden_size=0:", "≥ 1"),
    ("train task=digits task.length=63", "task.length=63:", "≥ 64"),
    ("train init=chrono", "init=chrono:", "does not suit cell=rnn"),
    ("train cell=gru init=critical", "init=critical:", "does not suit cell=gru"),
    ("train task=mnist task.data=nowhere", "task.data=nowhere:", "no such folder"),
    ("train task.length=${nope}", "task.length=${nope}:", "not found"),
    ("train task.length=${oc.env:NO_SUCH}", "task.length=${oc.env:NO_SUCH}:", "NO_SUCH"),
    ("train seed=${seed}", "seed=${seed}:", "Recursive"),
    ("train task.length=${nope", "task.length=${nope:", "Hydra can read"),
    ("train task.length=[1", "task.length=[1:", "Hydra can read"),
    ("train lstm", "lstm:", "expected key=value"),
    ("train =3", "=3:", "expected key=value"),
    ("train +x=1", "+x=1:", "unknown key"),
    ("train ++x=1", "++x=1:", "unknown key"),
    ("train +seed=1", "+seed=1:", "write seed=1"),
    ("train +trainer.max_epochs=3", "+trainer.max_epochs=3:", "write trainer.max_epochs=3"),
    ("train ++trainer={max_epochs:3}", "trainer.max_epochs=3:", "did you mean 'max_steps'"),
    ("train +trainer.max_steps=3", "+trainer.max_steps=3:", "write trainer.max_steps=3"),
    ("train ~cell", "~cell:", "a key cannot be deleted"),
    ("train cell@model=lstm", "cell@model=lstm:", "write cell="),
    ("train cell=lstm cell=gru", "cell=gru:", "chosen twice"),
    ("train cell=rnn,lstm", "cell=rnn,lstm:", "need -m"),
    ("train seed=range(3)", "seed=range(3):", "need -m"),
    ("train hydra/launcher=packt", "hydra/launcher=packt:", "did you mean 'packed'"),
    ("train hydra.jbo=1", "hydra.jbo=1:", "only hydra.launcher, hydra.sweeper, "),
    ("train hydra.launcher.size=1", "", "Could not override 'hydra.launcher.size'"),
    ("train ~hydra.launcher", "~hydra.launcher:", "a key cannot be deleted"),
    ("train hydra.launcher.pack_size=many", "hydra.launcher.pack_size=many:", "choices: a number ≥ 1, auto"),
    ("train hydra.launcher.pack_size=aut", "hydra.launcher.pack_size=aut:", "did you mean 'auto'"),
    ("train hydra.launcher.pack_size=1.5", "hydra.launcher.pack_size=1.5:", "int"),
    ("train hydra.run.dir=x", "hydra.run.dir=x:", "only hydra.launcher, "),
    ("train -m hydra/launcher=joblib hydra.launcher.n_jobs=x", "hydra.launcher.n_jobs=x:", "Integer"),
    ("train hydra.launcher.workers=${nope}", "hydra.launcher.workers=${nope}:", "nor refer to another"),
    ("train -m +hydra.sweeper.grids={a:3}", "hydra.sweeper.grids.a=3:", "expected a mapping"),
    ("train -m +hydra.sweeper.grids={a:{cel:rnn}}", "cel=rnn:", "did you mean 'cell'"),
    ("train hydra.launcher.pack_size=0", "hydra.launcher.pack_size=0:", "≥ 1"),
    ("train hydra.launcher.rerun=al", "hydra.launcher.rerun=al:", "did you mean 'all'"),
    ("train --cfg job cel=lstm", "cel=lstm:", "did you mean 'cell'"),
    ("train --cfg jbo", "--cfg", "invalid choice"),
    ("train --multi-run", "--multi-run:", "did you mean '--multirun'"),
    ("train --resolve", "--resolve:", "--cfg"),
    ("train -m --cfg job", "--cfg:", "--multirun"),
    ("train --config-dir nowhere", "--config-dir=nowhere:", "no such folder"),
    ("train --config-name other", "--config-name=other:", "config"),
    ("train -m cel=rnn,lstm", "cel=rnn,lstm:", "did you mean 'cell'"),
    ("train -m cell=rnn,lstn", "cell=lstn:", "did you mean 'lstm'"),
    ("train -m cell=lstm,gru,rnn init=chrono", "init=chrono:", "does not suit cell=rnn"),
    ("train -m seed=0,1,two", "seed=two:", "expected int"),
    ("train -m optimizer.lr=0.1,0.01,-0.001", "optimizer.lr=-0.001:", "> 0"),
    ("train -m optimizer.lr=nan,0.1", "optimizer.lr=nan:", "finite"),
    ("train -m task.length=10,${nope}", "task.length=${nope}:", "not found"),
    ("train -m seed=interval(0,1)", "seed=interval(0,1):", "range"),
    ("train -m seed=range(1,9,0)", "seed=range(1,9,0):", "zero"),
    ("train -m seed=range(9,1)", "seed=range(9,1):", "no value"),
    ("train -m init=glob(z*)", "init=glob(z*):", "no value"),
    ("train -m cell=rnn,", "cell=rnn,:", "Hydra can read"),
    ("train -m task=mnist,recall task.data=nowhere", "task.data=nowhere:", "no such folder"),
    ("train -m seed=0,1 hydra/launcher=job_lib", "hydra/launcher=job_lib:", "did you mean 'joblib'"),
    ("train -m seed=0,1 hydra/sweeper=gold", "hydra/sweeper=gold:", "did you mean 'goldfish'"),
    ("train -m hydra.job.num=1,2", "hydra.job.num=1,2:", "not Hydra's own"),
    ("train -m seed=0,1 hydra.launcher.rerun=al", "hydra.launcher.rerun=al:", "did you mean 'all'"),
    ("train -m seed=0,1 +x=1", "+x=1:", "unknown key"),
    ("train -m seed=0,1 ~cell", "~cell:", "cannot be deleted"),
    ("trian", "trian:", "did you mean 'train'"),
    ("--verison", "--verison:", "did you mean"),
    ("reproduce", "expected an experiment", "forgetting"),
    ("reproduce forgeting", "forgeting:", "did you mean 'forgetting'"),
    ("reproduce forgetting --scale tiny", "--scale=tiny:", "smoke"),
    ("reproduce forgetting --scail smoke", "--scail:", "did you mean '--scale'"),
    ("reproduce forgetting --rerun some", "--rerun=some:", "missing"),
    ("reproduce forgetting --scale", "--scale:", "expected a value"),
    ("figures forgeting", "forgeting:", "did you mean 'forgetting'"),
    ("figures forgetting --rerun all", "--rerun:", "unknown option"),
    ("export", "Missing option", "'--to'"),
    ("export --to runs.txt", "--to=runs.txt:", ".csv"),
    ("export --to runs.csv", "--to=runs.csv:", "nothing is recorded"),
    ("status now", "now:", "no such experiment"),
    ("status --scale cpu now later", "Got unexpected", "(later)"),
    ("status forgetting --scale tiny", "--scale=tiny:", "smoke"),
    ("explain", "Missing argument", "RUN"),
    ("explain cel=lstm", "cel=lstm:", "did you mean 'cell'"),
    ("explain abcdef", "abcdef:", "no run of this name"),
    ("doctor --relocat", "--relocat:", "did you mean '--relocate'"),
    ("ui --port many", "--port:", "'many' is not a valid integer"),
    ("ui --port 70000", "--port:", "70000 is not in the range 1<=x<=65535"),
    ("check --scale gpus", "--scale=gpus:", "did you mean 'gpu'"),
]

DRIVER = """
import contextlib, io, json, sys, traceback
from goldfish.cli import main
answers = []
for case in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(case.split())
        except BaseException:
            code = traceback.format_exc()
    answers.append({"code": code, "out": out.getvalue(), "err": err.getvalue()})
heavy = {"torch", "pytorch_lightning", "mlflow", "datasets", "sklearn", "matplotlib"} & sys.modules.keys()
json.dump({"answers": answers, "heavy": sorted(heavy)}, sys.stdout)
"""


def run(code: str, folder: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key not in ("MLFLOW_TRACKING_URI", "COLUMNS")}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=folder, input=stdin, env=environment, text=True, capture_output=True, check=False
    )


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every case said, the heavy modules imported, and what lies in the folder afterwards."""
    folder = tmp_path_factory.mktemp("bad")
    done = run(DRIVER, folder, json.dumps([case for case, _, _ in CASES]))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    return result | {"left": [str(path) for path in folder.rglob("*")]}


@pytest.mark.parametrize("index", range(len(CASES)), ids=[case for case, _, _ in CASES])
def test_one_line_names_it(told: dict[str, Any], index: int) -> None:
    _, head, holds = CASES[index]
    answer = told["answers"][index]
    assert (answer["code"], answer["out"]) == (2, "")
    assert answer["err"].endswith("\n")
    assert answer["err"].count("\n") == 1
    assert answer["err"].startswith(f"goldfish: {head}")
    assert holds in answer["err"]


def test_nothing_heavy_is_imported(told: dict[str, Any]) -> None:
    assert told["heavy"] == []


def test_nothing_is_left_behind(told: dict[str, Any]) -> None:
    assert told["left"] == []


@pytest.mark.parametrize("arguments", [["train", "cell=lstn"], ["train", "-m", "seed=0,-1"], ["trian"]])
def test_the_program_exits_with_2(tmp_path: Path, arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "goldfish", *arguments], cwd=tmp_path, text=True, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("goldfish: ")
    assert list(tmp_path.iterdir()) == []
