"""Every section measures something at tiny sizes, and its own arithmetic is right. No time is asserted."""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from benchmarks import contestants, run
from benchmarks.bench import Bench
from benchmarks.interleave import NotRun, Ratio, Timed, ratio
from benchmarks.peers import blas
from benchmarks.problem import CELLS, Shape
from benchmarks.rows import row
from benchmarks.sections import SECTIONS, compiled, exactness, floor, growth, single
from goldfish.cli import commands, main


class Tiny(Bench):
    """As short as can be."""

    rounds = 1
    seconds = 1e-4

    def shape(self, cell: str, hidden: int, batch: int, replicas: int = 1) -> Shape:
        return Shape(cell, 4, 2, 3, replicas)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Tiny("cpu", 2, True, stack)


@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_says_what_it_does(name: str, bench: Bench) -> None:
    section = run.section(name)
    assert (section.NAME, bool(section.TITLE)) == (name, True)
    names = [job.name for job in section.jobs(bench)]
    assert names


@pytest.mark.parametrize("name", [pytest.param("single", marks=pytest.mark.slow), "instrumented", "packing"])
def test_sections_that_take_turns(name: str, bench: Bench) -> None:
    rows = run.section(name).jobs(bench)[0].run()
    assert {item.section for item in rows} == {name}
    ran = [item for item in rows if item.ran]
    assert len(ran) >= 3
    assert all(item.ratio is not None and item.ratio > 0 and item.value for item in ran)
    assert any(item.peer.startswith("goldfish auto") for item in ran)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "last"), [("sweep", 1), ("first_use", 1), ("harness", 5)])
def test_sections_around_it(name: str, last: int) -> None:
    """The last jobs of each; the harness's are the training of one cell and everything that is no training."""
    with ExitStack() as stack:
        bench = Bench("cpu", 2, True, stack)
        section = run.section(name)
        rows = [item for job in section.jobs(bench)[-last:] for item in job.run()]
    assert rows
    assert all(item.value is not None and item.value > 0 for item in rows), rows


def test_a_watched_step_beside_an_unwatched_one(bench: Bench) -> None:
    rows = run.section("watch").jobs(bench)[1].run()
    assert [item.peer for item in rows] == ["goldfish.watch", "loop over nn.*Cell, retain_grad"]
    assert all(item.ratio is not None and item.ratio > 0 and item.value for item in rows)


def test_exactness_of_every_engine(bench: Bench) -> None:
    rows = exactness._measure(bench, Shape("lstm", 6, 2, 30), torch.float32)
    worst = [item for item in rows if "worst" in item.case and item.ran]
    assert len({item.peer for item in worst}) >= 3
    assert all(0 < (item.value or 0) < 5e-6 for item in worst), worst
    right = [item for item in rows if item.unit == "steps"]
    assert {item.value for item in right} == {30}


def test_errors_over_the_batch() -> None:
    expected = torch.tensor([[-900.0, 0.0], [-901.0, -50.0]], dtype=torch.float64)  # 2^-900, and half of it
    found = expected + torch.log2(torch.tensor([[1.0, 1.0], [1.5, 1.0]], dtype=torch.float64))
    errors = exactness.relative_log2(found, expected)
    assert errors.flatten().tolist() == pytest.approx([0.0, 0.0, 0.5, 0.0])
    by_step = exactness.over_batch(errors, expected)
    assert by_step.tolist() == pytest.approx([0.25 / math.hypot(1, 0.5), 0.0])
    lost = exactness.relative_log2(torch.tensor([-torch.inf]), torch.tensor([-900.0]))
    assert lost.tolist() == [1.0]


def test_what_the_assembler_says() -> None:
    log = """ptxas info    : Compiling entry function 'backward' for 'sm_90'
ptxas info    : Function properties for backward
    0 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 96 registers, used 1 barriers, 688 bytes cmem[0]
ptxas info    : Compiling entry function 'forward' for 'sm_90'
ptxas info    : Function properties for forward
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers
"""
    assert compiled._told(log) == {"backward": (96, 20), "forward": (64, 0)}


def test_a_compiler_that_is_missing_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cuda.core", "triton.compiler"):
        monkeypatch.setitem(sys.modules, name, None)
    rows = compiled.jobs(bench)[0].run()
    assert {item.peer for item in rows} == {"NVRTC", "Triton ieee", "Triton tf32x3"}
    assert all(not item.ran and "halted" in item.note for item in rows), rows


@pytest.mark.slow
def test_compilers_that_are_there(bench: Bench) -> None:
    there = {peer for peer, package in (("NVRTC", "cuda"), ("Triton", "triton")) if importlib.util.find_spec(package)}
    if not there:
        pytest.skip("neither cuda-core nor triton is installed")
    ran = [item for item in compiled.jobs(bench)[0].run() if item.ran]
    assert {item.peer.split()[0] for item in ran} == there
    assert all(item.value == 0 for item in ran if "spilled" in item.case), ran
    assert all(0 < (item.value or 0) <= 255 for item in ran if "registers" in item.case), ran


def test_operations_counted_by_hand() -> None:
    shape = Shape("lstm", hidden=2, batch=3, length=5, inputs=1)
    forward = 2 * 8 * (1 + 2)  # 8 gates' rows times [x, h], a multiplication and an addition each
    backward = 2 * 8 * 2 + forward  # into h_{t-1}, and into both weights
    assert floor.flops(shape) == 5 * 3 * (forward + backward)


@pytest.mark.slow
def test_the_ceiling_is_the_fastest_library_on_its_fastest_path_and_is_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Nehalem")  # OpenBLAS would take the code of a processor of 2008
    monkeypatch.setattr(blas, "LIBRARIES", {name: blas.LIBRARIES[name] for name in ("numpy", "scipy")})
    ceilings, case = floor.jobs(bench)[:2]
    rows = ceilings.run()
    products = [item for item in rows if item.unit == "GFLOP/s"]
    assert len(products) == 2 * 2, "two libraries, one thread and two"
    assert not [item for item in products if "Nehalem" in item.case]
    fastest = {item.peer: item.case for item in products if item.note == "the fastest: the ceiling"}
    for unit in ("1 thread", "2 threads"):
        rates = {item.case: item.value for item in products if item.peer == unit}
        assert rates[fastest[unit]] == max(value for value in rates.values() if value)
    shares = [item for item in case.run() if "product's ceiling" in item.case]
    assert {item.peer for item in shares} == {contestants.OURS, "torch.nn"}
    library = fastest["2 threads"].removeprefix("one large float32 product: ")
    assert all(item.case.endswith(f"fraction of the product's ceiling ({library})") for item in shares)


def test_a_fraction_is_taken_round_by_round() -> None:
    product, step = Timed((1.0, 2.0, 4.0)), Timed((0.5, 1.0, 2.0))  # the machine slows down, their ratio stays
    found = floor._fraction("case", "peer", ratio(product, step), share=0.25)
    assert (found.value, found.note) == (0.5, "± 0%")


def test_a_library_that_is_not_there_is_not_the_ceiling() -> None:
    assert floor._fastest({"a": NotRun("it is not there"), "b": Timed((2.0,)), "c": Timed((1.0,))}) == "c"
    with pytest.raises(RuntimeError, match="could multiply"):
        floor._fastest({"a": NotRun("it is not there")})


def test_the_exponent_of_growth() -> None:
    assert growth.exponent([(T, 3e-4 * T**1.2) for T in (200, 500, 1000, 10_000)]) == pytest.approx(1.2)


def test_growth_is_summed_up() -> None:
    bench = Bench("cpu")
    rows = []
    for cell in CELLS:
        lengths = [(Shape(cell, length=T), 1e-5 * T) for T in growth.LENGTHS]
        packs = [(bench.shape(cell, 32, 32, R), 2e-3 / R) for R in growth.REPLICAS if R > 1]
        rows += [
            row("growth", str(shape), contestants.OURS, cost, ratio=Ratio(1, 0)) for shape, cost in lengths + packs
        ]
    exponent, packed = growth.summary(bench, rows)[:2]
    assert exponent.case == "rnn H=32 B=32: exponent of T, 200 to 10000"
    assert exponent.value == pytest.approx(1.0)
    assert packed.case == "rnn H=32 B=32: cost per replica, R=32 ÷ R=1"
    assert packed.ratio == pytest.approx(1 / 32)
    assert (exponent.met, packed.met) == ("yes", "yes")


def test_the_geometric_mean_needs_every_size() -> None:
    bench = Bench("cpu")
    ratios = {(32, 32): 8.0, (32, 128): 2.0, (128, 32): 4.0, (128, 128): 4.0}
    rows = [
        row("single", str(bench.shape("rnn", *size)), "torch.nn", 1.0, ratio=Ratio(value, 0.0))
        for size, value in ratios.items()
    ]
    (found,) = single.summary(bench, rows)
    assert found.case == "rnn, geomean H {32,128} × B {32,128}"
    assert found.ratio == pytest.approx(4.0)
    assert (found.target, found.met) == ("≥ 4.5", "no")
    assert single.summary(bench, rows[:-1]) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--only", "singel"], "did you mean 'single'?"),
        (["--device", "gpu"], "(choices: cpu, cuda)"),
        (["--threads", "0"], "--threads"),
        (["--quick", "--update-results"], "--quick: cannot go with --update-results"),
        (["--fast"], "--fast: unknown option"),
    ],
)
def test_bad_input(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_where_no_clone_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    installed = tmp_path / "lib" / "site-packages" / "goldfish" / "cli" / "commands.py"
    monkeypatch.setattr(commands, "__file__", str(installed))
    assert main(["bench", "--quick"]) == 2
    told = "bench: needs a clone of the repository, because benchmarks/ is not part of the package"
    assert capsys.readouterr().err == f"goldfish: {told}\n"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--device", "cuda"]) == 2
    assert capsys.readouterr().err == "goldfish: --device=cuda: no CUDA device here; expected cpu\n"


BARE = """
import importlib.machinery, sys
absent = {"hydra", "omegaconf", "mlflow", "pandas", "matplotlib", "datasets", "sklearn", "scipy", "pyarrow", "filelock"}
class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in absent else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Finder
from goldfish.cli import commands, main
sys.exit(main(["bench", "--quick", "--only", "packing,sweep,harness"]))
"""


@pytest.mark.slow
def test_a_machine_that_has_little_more_than_torch(tmp_path: Path) -> None:
    """Sections that need what is missing say so; the CSV is written."""
    done = subprocess.run(
        [sys.executable, "-c", BARE], cwd=tmp_path, capture_output=True, text=True, timeout=300, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    assert "needs hydra, mlflow" in done.stdout
    written = sorted(path.name for path in (tmp_path / "outputs" / "benchmarks" / "cpu").iterdir())
    assert written == ["harness.csv", "packing.csv", "sweep.csv"]


def test_the_sections_without_needs_import_where_nothing_else_is() -> None:
    assert {name for name in SECTIONS if run.section(name).NEEDS} == {"sweep", "harness"}
    assert all(importlib.util.find_spec(need) for name in SECTIONS for need in run.section(name).NEEDS)
