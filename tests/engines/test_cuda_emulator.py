"""The emulator is as strict as a GPU: kernels that lack a barrier or a wait give other numbers there, or an error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.engines.cuda_emulator import emulated, needs_compiler
from tests.engines.reference import Case
from tests.engines.test_cuda_bits import _outcome
from torch import Tensor

from goldfish.engines.cuda import gemm, source

pytestmark = [needs_compiler, pytest.mark.slow]  # compiles a kernel for each size


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture
def _mended() -> Iterator[None]:
    """Sources are read anew before and after."""
    source.text.cache_clear()
    yield
    source.text.cache_clear()


def _product() -> list[Tensor]:
    torch.manual_seed(0)
    return [gemm.to_weights(torch.randn(1, 70, 9), torch.randn(1, 70, 40), torch.randn(1, 70, 4))]


def _layer() -> list[Tensor]:
    return list(_outcome(Case("lstm", None, "cuda"), (40, 5, 9, 3), 4).values())


INTACT: dict[str, list[Tensor]] = {}
FAULTS = [
    ("gemm", "await_copies<STAGES - 2>();", ""),  # copies are not waited for
    ("gemm", "await_copies<STAGES - 2>();", "await_copies<STAGES - 1>();"),  # one too few
    ("gemm", "__syncthreads();  // this stage", "// this stage"),  # other threads' copies are not there
    ("forward", "product.run(from, sums);\n        __syncthreads();", "product.run(from, sums);"),
    ("forward", "        wait_for_tile();\n    }", "    }"),
    (
        "forward",
        "        wait_for_tile();\n    }",
        "        if (threadIdx.x < 32) wait_for_tile();\n    }",
    ),  # not for all
    ("backward", "if (CLUSTER == 1) wait_for_tile();", ""),
    ("backward", "coming[n].before);\n        __syncthreads();", "coming[n].before);"),
]


@pytest.mark.usefixtures("_mended")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault[0])
def test_faults_are_noticed(fault: tuple[str, str, str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, right, wrong = fault
    run, part = _product if file == "gemm" else _layer, source.part
    if run.__name__ not in INTACT:
        with emulated(folder, seed=1):
            INTACT[run.__name__] = run()
    assert right in part(file)
    monkeypatch.setattr(source, "part", lambda name: part(name).replace(right, wrong) if name == file else part(name))
    source.text.cache_clear()
    try:
        with emulated(folder, seed=1, flags=(f"-DFAULT_{FAULTS.index(fault)}",)):
            found = run()
    except RuntimeError as error:
        print(error)
        return
    assert not all(map(torch.equal, found, INTACT[run.__name__]))
