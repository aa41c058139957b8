"""One large float32 product by each of the matrix libraries at hand: the machine's ceiling is the fastest of them.

Also a program of its own, which imports no goldfish: `python blas.py LIBRARY THREADS SIDE` says in its first line what
it calls, then reads one line of JSON at a time, {"steps": n} to multiply n times, and answers each with a line.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

Product = Callable[[], object]
# What chooses a slower path of a library than the processor has, or keeps threads busy that have nothing to do.
UNSET = ("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "ONEDNN_MAX_CPU_ISA")
PASSIVE = MappingProxyType({"OMP_WAIT_POLICY": "passive", "OPENBLAS_THREAD_TIMEOUT": "4"})
AVX512: Mapping[str, str] = MappingProxyType({"MKL_CBWR": "AVX512", "MKL_ENABLE_INSTRUCTIONS": "AVX512"})
# which → the function below that calls it, whose it is, and what its process's environment has
LIBRARIES: Mapping[str, tuple[str, str, Mapping[str, str]]] = MappingProxyType(
    {
        "torch": ("torch_mm", "of torch", {}),
        "torch AVX-512": ("torch_mm", "of torch, AVX-512 asked for", AVX512),
        "oneDNN": ("onednn", "of torch", {}),
        "numpy": ("numpy", "of numpy", {}),
        "scipy": ("scipy", "of scipy", {}),
    }
)


def torch_mm(side: int, threads: int) -> tuple[str, Product]:
    """torch's own BLAS, usually MKL."""
    import torch

    torch.set_num_threads(threads)
    a = torch.rand(side, side)
    out = torch.empty_like(a)
    named = "MKL" if torch.backends.mkl.is_available() else _pool("torch")
    return named, lambda: torch.mm(a, a, out=out)


def onednn(side: int, threads: int) -> tuple[str, Product]:
    """oneDNN's product, as torch's layers for it call it. Raises RuntimeError where torch was built without it."""
    import torch
    from torch.utils import mkldnn

    torch.set_num_threads(threads)
    if not torch.backends.mkldnn.is_available():
        raise RuntimeError("torch was built without oneDNN")
    layer = mkldnn.to_mkldnn(torch.nn.Linear(side, side, bias=False).eval())
    a = torch.rand(side, side).to_mkldnn()
    return "oneDNN", torch.no_grad()(lambda: layer(a))


def numpy(side: int, threads: int) -> tuple[str, Product]:
    """numpy's BLAS."""
    import numpy as np

    a = np.random.default_rng(0).random((side, side), dtype=np.float32)
    out = np.empty_like(a)
    return _pool("numpy"), lambda: np.matmul(a, a, out=out)


def scipy(side: int, threads: int) -> tuple[str, Product]:
    """scipy's BLAS, which need not be numpy's."""
    import numpy as np
    from scipy.linalg.blas import sgemm

    a = np.asfortranarray(np.random.default_rng(0).random((side, side), dtype=np.float32))
    out = np.empty_like(a)
    return _pool("scipy"), lambda: sgemm(1.0, a, a, c=out, overwrite_c=True)


def _pool(package: str) -> str:
    """Such as "OpenBLAS 0.3.31 SkylakeX": library, version and path of the BLAS that a package brings."""
    from threadpoolctl import threadpool_info

    found = [item for item in threadpool_info() if item["user_api"] == "blas"]
    own = [item for item in found if f"/{package}" in Path(item["filepath"]).parent.as_posix()] or found
    if not own:
        return "a BLAS without a name"
    name = {"openblas": "OpenBLAS", "mkl": "MKL", "blis": "BLIS"}.get(own[0]["internal_api"], own[0]["internal_api"])
    version = ".".join(str(own[0].get("version") or "").split(".")[:3])
    return " ".join(part for part in (name, version, own[0].get("architecture")) if part)


PRODUCTS: Mapping[str, Callable[[int, int], tuple[str, Product]]] = MappingProxyType(
    {"torch_mm": torch_mm, "onednn": onednn, "numpy": numpy, "scipy": scipy}
)


def main() -> None:
    """Serve until standard input ends."""
    named, multiply = PRODUCTS[sys.argv[1]](int(sys.argv[3]), int(sys.argv[2]))
    print(named, flush=True)
    for line in sys.stdin:
        for _ in range(json.loads(line)["steps"]):
            multiply()
        print("done", flush=True)


if __name__ == "__main__":
    main()
