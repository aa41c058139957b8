"""No source of ours runs code that comes as data: a lint over src/ and conf/, and a planted example for each rule."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PICKLES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle"}
EXCEPTIONS = {"PickleError", "PicklingError", "UnpicklingError"}  # torch.load raises them
RUN_TEXT = {"eval", "exec", "compile", "__import__"}
CALLS = {  # a dotted name → what is wrong with it
    "os.system": "runs a shell",
    "os.popen": "runs a shell",
    "subprocess.getoutput": "runs a shell",
    "subprocess.getstatusoutput": "runs a shell",
    "asyncio.create_subprocess_shell": "runs a shell",
    "tempfile.mktemp": "is a race",
    "hydra.utils.instantiate": "calls what a configuration names",
    "hydra.utils.call": "calls what a configuration names",
    "hydra.utils.get_class": "imports what a configuration names",
    "hydra.utils.get_method": "imports what a configuration names",
    "hydra.utils.get_object": "imports what a configuration names",
    "yaml.unsafe_load": "makes objects",
    "yaml.unsafe_load_all": "makes objects",
    "yaml.full_load": "makes objects",
    "yaml.full_load_all": "makes objects",
    "torch.jit.load": "runs code from a file",
    "torch.package.PackageImporter": "runs code from a file",
    "torch.hub.load": "runs code from the network",
    "pandas.read_pickle": "unpickles",
    "mlflow.pytorch.load_model": "unpickles",
    "mlflow.pyfunc.load_model": "unpickles",
    "ssl._create_unverified_context": "trusts anybody",
}
SAFE_LOADERS = {"SafeLoader", "CSafeLoader"}
PLUGIN = "hydra_plugins.goldfish.PackedLauncher", "hydra_plugins.goldfish.GoldfishSweeper"


def findings(source: str) -> list[str]:
    """The rules that a module breaks, as "line: what"."""
    tree = ast.parse(source)
    names = _names(tree)
    return [f"{node.lineno}: {what}" for node in ast.walk(tree) for what in _wrong(node, names)]  # type: ignore[attr-defined]


def _names(tree: ast.AST) -> dict[str, str]:
    """Local name → dotted name, of everything imported."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _wrong(node: ast.AST, names: dict[str, str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (f"imports {alias.name}" for alias in node.names if alias.name.partition(".")[0] in PICKLES)
    elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in PICKLES:
        yield from (f"imports {node.module}.{a.name}" for a in node.names if a.name not in EXCEPTIONS)
    elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load):
        dotted = _dotted(node, names)
        if dotted in CALLS:
            yield f"{dotted} {CALLS[dotted]}"
    elif isinstance(node, ast.Call):
        yield from _wrong_call(node, names)
    elif (isinstance(node, ast.Constant) and node.value == "_target_") or (
        isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "_target_" and not _is_plugin(node.value)
    ):
        yield "_target_ names code in a configuration"


def _is_plugin(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value in PLUGIN


def _wrong_call(call: ast.Call, names: dict[str, str]) -> Iterator[str]:
    dotted = _dotted(call.func, names)
    given = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    if isinstance(call.func, ast.Name) and dotted in RUN_TEXT:
        yield f"{dotted} runs text"
    if dotted in ("yaml.load", "yaml.load_all"):
        loader = given.get("Loader", call.args[1] if len(call.args) > 1 else None)
        if loader is None or _dotted(loader, names).rpartition(".")[2] not in SAFE_LOADERS:
            yield f"{dotted} without a safe loader"
    if dotted == "torch.load" and not _is(given.get("weights_only"), True):
        yield "torch.load without weights_only=True"
    if dotted in ("numpy.load", "numpy.lib.npyio.NpzFile") and not _is(
        given.get("allow_pickle", ast.Constant(False)), False
    ):
        yield "numpy.load with allow_pickle"
    if "shell" in given and not _is(given["shell"], False):
        yield "shell=True runs a shell"
    if isinstance(call.func, ast.Attribute) and call.func.attr == "read_pickle":
        yield "read_pickle unpickles"


def _dotted(node: ast.AST, names: dict[str, str]) -> str:
    """np.load → numpy.load, whatever it was imported as; nothing for what is no name."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        head = _dotted(node.value, names)
        return f"{head}.{node.attr}" if head else ""
    return ""


def _is(node: ast.AST | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def modules() -> list[Path]:
    return sorted((ROOT / "src").rglob("*.py"))


ALLOWED = {  # what stands there for a reason: the reason
    "src/goldfish/composing/overrides.py": "_target_ names code",  # it is what refuses them
    "src/goldfish/config/signatures.py": "runs text",  # annotations of installed modules, which are code anyway
}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_no_module_runs_what_comes_as_data(path: Path) -> None:
    allowed = ALLOWED.get(path.relative_to(ROOT).as_posix())
    found = findings(path.read_text(encoding="utf-8"))
    assert [line for line in found if allowed is None or allowed not in line] == []


PLANTED = {
    "import pickle": "imports pickle",
    "from pickle import loads": "imports pickle.loads",
    "import marshal as m": "imports marshal",
    "import shelve": "imports shelve",
    "from dill import load": "imports dill.load",
    "import cloudpickle.cloudpickle": "imports cloudpickle",
    "def f(text):\n    return eval(text)": "eval runs text",
    "exec(open('x').read())": "exec runs text",
    "compile(text, 'x', 'exec')": "compile runs text",
    "__import__(name)": "__import__ runs text",
    "import yaml\nyaml.load(text)": "yaml.load without",
    "import yaml\nyaml.load(text, Loader=yaml.Loader)": "yaml.load without",
    "from yaml import load, UnsafeLoader\nload(text, UnsafeLoader)": "yaml.load without",
    "import yaml\nyaml.unsafe_load(text)": "yaml.unsafe_load makes",
    "import yaml as y\ny.full_load(text)": "yaml.full_load makes",
    "import torch\ntorch.load(path)": "torch.load without",
    "import torch as t\nt.load(path, weights_only=False)": "torch.load without",
    "from torch import load\nload(path, weights_only=flag)": "torch.load without",
    "import subprocess\nsubprocess.run(command, shell=True)": "shell=True",
    "from subprocess import Popen\nPopen(command, shell=flag)": "shell=True",
    "import subprocess\nsubprocess.getoutput(command)": "subprocess.getoutput",
    "import os\nos.system(command)": "os.system",
    "from os import system as quietly\nquietly(command)": "os.system",
    "import os\nrun = os.popen": "os.popen",
    "import hydra\nhydra.utils.instantiate(config)": "hydra.utils.instantiate",
    "from hydra.utils import instantiate\ninstantiate(config)": "hydra.utils.instantiate",
    "from hydra.utils import get_class\nget_class(name)": "hydra.utils.get_class",
    "from hydra import utils\nutils.call(config)": "hydra.utils.call",
    "config = {'_target_': 'os.system'}": "_target_",
    "class Conf:\n    _target_: str = 'os.system'": "_target_",
    "import tempfile\ntempfile.mktemp()": "tempfile.mktemp",
    "import numpy as np\nnp.load(path, allow_pickle=True)": "numpy.load",
    "import pandas as pd\npd.read_pickle(path)": "pickle",
}


@pytest.mark.parametrize("source", PLANTED, ids=lambda source: source.splitlines()[-1])
def test_what_is_planted_is_found(source: str) -> None:
    assert any(PLANTED[source] in line for line in findings(source))


HARMLESS = (
    "from pickle import UnpicklingError",
    "import yaml\nyaml.safe_load(text)",
    "import yaml\nyaml.load(text, Loader=yaml.CSafeLoader)",
    "import torch\ntorch.load(path, weights_only=True)",
    "import re\nre.compile(text)",
    "import ast\nast.literal_eval(text)",
    "model.eval()",
    "import subprocess\nsubprocess.run(['git'], shell=False)",
    "import numpy as np\nnp.load(path)",
    "class Conf:\n    _target_: str = 'hydra_plugins.goldfish.PackedLauncher'",
)


@pytest.mark.parametrize("source", HARMLESS, ids=lambda source: source.splitlines()[-1])
def test_what_is_harmless_passes(source: str) -> None:
    assert findings(source) == []


@pytest.mark.parametrize("path", [*(ROOT / "conf").rglob("*.yaml"), *(ROOT / "experiments").rglob("*.yaml")], ids=str)
def test_no_configuration_names_code(path: Path) -> None:
    assert not re.search(r"_target_|!!python|pkg://", path.read_text(encoding="utf-8"))
