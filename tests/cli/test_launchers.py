"""Launchers of other packages are offered where they are installed, and nowhere else."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

from goldfish.cli import main

PLAIN = """
import contextlib, io, json, os, pkgutil, sys
walk = pkgutil.walk_packages
def plain(*given, **named):
    return (item for item in walk(*given, **named) if not item.name.startswith("hydra_plugins.hydra_"))
pkgutil.walk_packages = plain  # as Hydra finds plugins
from goldfish.cli import main
answers = []
for case, line in (("train --help", ""), ("train -m hydra/launcher=joblib seed=0,1", ""),
                   ("train -m hydra/launcher=pact seed=0,1", ""), ("-sc query=bash", "goldfish train hydra/launcher=")):
    os.environ |= {"COMP_LINE": line, "COMP_POINT": str(len(line))}
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.suppress(SystemExit):
        main(case.split())
    answers.append(out.getvalue() + err.getvalue())
json.dump(answers, sys.stdout)
"""


def test_a_plain_install_offers_its_own(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    command = [sys.executable, "-c", PLAIN]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told, wrong, near, completed = json.loads(done.stdout)
    assert "hydra/launcher=joblib" not in told
    assert "hydra-joblib-launcher or hydra-submitit-launcher, once installed, trains elsewhere" in told
    assert wrong == "goldfish: hydra/launcher=joblib: choices: basic, packed\n"
    assert near == "goldfish: hydra/launcher=pact: did you mean 'packed'? (choices: basic, packed)\n"
    assert completed.split() == ["hydra/launcher=basic", "hydra/launcher=packed"]


def test_what_is_installed_is_offered(capsys) -> None:
    with contextlib.suppress(SystemExit):
        main(["train", "--help"])
    assert "-m hydra/launcher=joblib or submitit_local or submitit_slurm trains elsewhere" in capsys.readouterr().out
