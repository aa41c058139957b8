"""What only the compiled engine has: any shape, padding, tiles, threads, exponents, recomputation, its cache."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engines.reference import Tensors, relative, relative_log2

import goldfish
from goldfish.engines import cpu, subnormals
from goldfish.engines.cpu import kernel_cache, product, threads
from goldfish.errors import ConfigError
from goldfish.recurrent import Recurrent
from goldfish.threads import one_thread

CELLS = {"rnn": ("tanh", "relu", "identity", "sigmoid"), "lstm": (None,), "gru": (None,)}
KINDS = [(name, choice) for name, choices in CELLS.items() for choice in choices]
each_kind = pytest.mark.parametrize(("name", "nonlinearity"), KINDS)


def build(name: str, nonlinearity: str | None, D: int, H: int, **others: Any) -> Recurrent:
    arguments: dict[str, Any] = {} if nonlinearity is None else {"nonlinearity": nonlinearity}
    return Recurrent(name, D, H, **arguments, **others)


def step(recurrent: Recurrent, inputs: torch.Tensor, cotangent: torch.Tensor) -> Tensors:
    """One training step's every result; `cotangent` (R, B, T, H) is what the loss puts on the outputs."""
    inputs = inputs.detach().clone().requires_grad_()
    recurrent.zero_grad()
    outputs, final = recurrent(inputs)
    with goldfish.gradient_flow(recurrent) as flow:
        torch.autograd.backward(outputs, cotangent)
    found = {"outputs": outputs.detach(), "inputs": inputs.grad, **{f"final {k}": v for k, v in final.items()}}
    found |= {name: parameter.grad for name, parameter in recurrent.named_parameters()}
    return {k: v.detach() for k, v in found.items() if v is not None} | {
        f"norm {k}": v for k, v in flow.log2_norm.items()
    }


def same(a: Tensors, b: Tensors) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    R=st.integers(1, 3),
    B=st.integers(1, 19),
    T=st.integers(1, 23),
    D=st.integers(1, 18),
    H=st.integers(1, 41),
    layers=st.integers(1, 3),
    recompute=st.booleans(),
    seed=st.integers(0, 2**20),
)
def test_any_shape(
    kind: tuple[str, str | None], R: int, B: int, T: int, D: int, H: int, layers: int, recompute: bool, seed: int
) -> None:
    """Equal to eager in float64, to 1e-11 of each tensor, whatever is padded or cut into tiles and chunks."""
    torch.manual_seed(seed)
    shared: dict[str, Any] = {"num_layers": layers, "replicas": R, "dtype": torch.float64}
    eager = build(*kind, D, H, engine="eager", **shared)
    own = build(*kind, D, H, engine="cpu", recompute=recompute, **shared)
    own.load_state_dict(eager.state_dict())
    inputs, cotangent = torch.randn(R, B, T, D).double(), torch.randn(R, B, T, H).double()
    expected, found = step(eager, inputs, cotangent), step(own, inputs, cotangent)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        if name.startswith("norm"):
            assert relative_log2(found[name], value) <= 1e-11, name
        else:
            assert relative(found[name], value, value.dim()) <= 1e-11, name


@each_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_bits_on_threads_recomputed_and_in_any_batch(
    name: str, nonlinearity: str | None, dtype: torch.dtype
) -> None:
    R, B, T, D, H = 2, 21, 37, 5, 24
    torch.manual_seed(0)
    recurrent = build(name, nonlinearity, D, H, num_layers=2, replicas=R, engine="cpu", dtype=dtype)
    inputs, cotangent = torch.randn(R, B, T, D, dtype=dtype), torch.randn(R, B, T, H, dtype=dtype)
    with one_thread():
        expected = step(recurrent, inputs, cotangent)
    assert same(step(recurrent, inputs, cotangent), expected)  # on all threads
    for recompute in (True, False):
        recurrent.recompute = recompute
        assert same(step(recurrent, inputs, cotangent), expected)
    for rows in (slice(3, 4), slice(5, 17)):  # other tiles, other places in them
        part = step(recurrent, inputs[:, rows], cotangent[:, rows])
        assert torch.equal(part["outputs"], expected["outputs"][:, rows])
        assert torch.equal(part["inputs"], expected["inputs"][:, rows])
        assert torch.equal(part["norm h"], expected["norm h"][:, :, rows])


@pytest.mark.parametrize("name", CELLS)
def test_the_same_bits_without_openmp(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    recurrent = Recurrent(name, 3, 16, replicas=3, engine="cpu")
    inputs, cotangent = torch.randn(3, 20, 11, 3), torch.randn(3, 20, 11, 16)
    expected = step(recurrent, inputs, cotangent)
    monkeypatch.setattr(threads, "_openmp", lambda: None)
    monkeypatch.setattr(threads, "count", lambda jobs: 2)
    assert same(step(recurrent, inputs, cotangent), expected)


def test_torchs_own_threads_are_used() -> None:
    assert threads._openmp() is not None
    assert threads.count(10_000) == torch.get_num_threads()
    assert threads.count(1) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [8.0, 1e-3])
@pytest.mark.parametrize("name", CELLS)
def test_exploding_and_vanishing_over_the_range_of_any_number(name: str, scale: float, dtype: torch.dtype) -> None:
    """Norms of 1e200, 1e-1000 and beyond, against the scaled chain of eager in float64 on the same float64 states."""
    torch.manual_seed(2)
    arguments: dict[str, Any] = {"nonlinearity": "identity"} if name == "rnn" else {}
    T, H = 400, 16
    own = Recurrent(name, 2, H, engine="cpu", dtype=dtype, **arguments)
    with torch.no_grad():
        for weight in own.parameters():
            weight.mul_(scale if weight.dim() == 3 else 0)  # without biases and inputs every state stays zero
    eager = Recurrent(name, 2, H, engine="eager", dtype=torch.float64, **arguments)
    eager.load_state_dict(own.state_dict())
    inputs, cotangent = torch.zeros(1, 3, T, 2, dtype=dtype), torch.zeros(1, 3, T, H, dtype=dtype)
    cotangent[:, :, -1] = torch.randn(1, 3, H, dtype=dtype)
    found, expected = step(own, inputs, cotangent), step(eager, inputs.double(), cotangent.double())
    reached = float(expected["norm h"].abs().max()) * math.log10(2)
    assert reached > (200 if name == "rnn" else 30)
    tolerance = 1e-10 if dtype == torch.float64 else 2e-3
    for norm in ("norm h", "norm state"):
        assert relative_log2(found[norm], expected[norm]) <= tolerance


@pytest.mark.parametrize("name", CELLS)
def test_a_loss_that_arrives_when_all_before_it_has_vanished(name: str) -> None:
    """Losses at steps 400 and 5 of 400: what comes from 400 must neither drown what comes at 5 nor be lost before."""
    torch.manual_seed(1)
    T, H = 400, 16
    own = Recurrent(name, 2, H, num_layers=2, engine="cpu")
    eager = Recurrent(name, 2, H, num_layers=2, engine="eager", dtype=torch.float64)
    eager.load_state_dict(own.state_dict())
    inputs, cotangent = torch.randn(1, 4, T, 2), torch.zeros(1, 4, T, H)
    cotangent[:, :, [5, T - 1]] = torch.randn(1, 4, 2, H)
    found, expected = step(own, inputs, cotangent), step(eager, inputs.double(), cotangent.double())
    assert float(expected["norm h"].min()) < -150
    assert relative_log2(found["norm h"], expected["norm h"]) <= 5e-4
    for parameter in dict(own.named_parameters()):
        assert relative(found[parameter], expected[parameter], expected[parameter].dim()) <= 2e-6


@pytest.mark.parametrize("name", CELLS)
def test_float32_over_seeds(name: str) -> None:
    """Norms over the batch, of a loss at the last of 200 steps: the worst step, 1.2e-6 in the geometric mean of seeds.

    A single seed says little: what rounding leaves of a vanished gradient varies tenfold between networks.
    """
    worst = []
    for seed in range(8):
        torch.manual_seed(seed)
        single = Recurrent(name, 4, 32, engine="cpu")
        double = Recurrent(name, 4, 32, engine="eager", dtype=torch.float64)
        double.load_state_dict(single.state_dict())
        inputs, cotangent = torch.randn(1, 8, 200, 4), torch.zeros(1, 8, 200, 32)
        cotangent[:, :, -1] = torch.randn(1, 8, 32)
        found, expected = (
            step(network, inputs.to(dtype), cotangent.to(dtype))["norm h"].mul(2 * math.log(2)).logsumexp(2) / 2
            for network, dtype in ((single, torch.float32), (double, torch.float64))
        )  # ln, (1, 1, T)
        worst.append(math.log(float((found - expected).abs().max())))
    assert math.exp(sum(worst) / len(worst)) <= 1.2e-6, [math.exp(w) for w in worst]


def test_a_saturated_rnn_keeps_the_digits_of_its_slope() -> None:
    """Pre-activations of ±12: in float32 h is ±1 and 1 - h² is 0; the gradient, 1e-10 a step, is not."""
    H = 8
    recurrent = Recurrent("rnn", 1, H, engine="cpu")
    with torch.no_grad():
        for weight in recurrent.parameters():
            weight.zero_()
        recurrent.get_parameter("bias_ih_l0").fill_(12.0)
        recurrent.get_parameter("weight_hh_l0")[0] = torch.eye(H) / 8
    outputs, _ = recurrent(torch.zeros(1, 1, 6, 1))
    assert (outputs[:, :, 1:] == 1).all()
    with goldfish.gradient_flow(recurrent) as flow:
        outputs[0, 0, -1, 0].backward()
    slope = 1 / math.cosh(12.125) ** 2 / 8
    expected = [math.log2(slope) * lag for lag in range(5, -1, -1)]
    assert flow.log2_norm["h"][0, 0, 0].tolist() == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("H", [5, 16, 17])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@each_kind
def test_infinity_and_nan_reach_what_they_reach_in_eager(
    name: str, nonlinearity: str | None, dtype: torch.dtype, H: int
) -> None:
    """An infinity or a NaN in one input or one unit of a state, one to a replica: finite where eager is, and equal."""
    torch.manual_seed(0)
    D, T = 3, 5
    states = ("h", "c") if name == "lstm" else ("h",)
    odd = [(key, value) for key in ("x", *states) for value in (math.inf, -math.inf, math.nan)]
    R = 1 + len(odd)
    given = {"x": torch.randn(R, 2, T, D, dtype=dtype)}
    given |= {key: torch.randn(R, 2, 2, H, dtype=dtype) for key in states}
    for r, (key, value) in enumerate(odd, start=1):
        given[key][r, 1, 1, 0] = value
    cotangent = torch.randn(R, 2, T, H, dtype=dtype)
    weights = build(name, nonlinearity, D, H, num_layers=2, replicas=R, dtype=dtype).state_dict()
    results = []
    for engine in ("eager", "cpu"):
        recurrent = build(name, nonlinearity, D, H, num_layers=2, replicas=R, engine=engine, dtype=dtype)
        recurrent.load_state_dict(weights)
        leaves = {key: value.clone().requires_grad_() for key, value in given.items()}
        outputs, final = recurrent(leaves["x"], {key: leaves[key] for key in states})
        torch.autograd.backward(outputs, cotangent)
        leaves |= dict(recurrent.named_parameters())
        results.append({"outputs": outputs.detach(), **{k: v.detach() for k, v in final.items()}})
        results.append({key: leaf.grad for key, leaf in leaves.items() if leaf.grad is not None})
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    for expected, found in zip(results[:2], results[2:], strict=True):
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            assert torch.equal(value[0].isfinite(), torch.ones_like(value[0], dtype=torch.bool)), key
            finite = value.isfinite()
            # σ(-∞) is e^-87 here: a GRU's reset gate, shut by an infinite state, then gives no NaN
            same = [r for r in range(R) if name != "gru" or r == 0 or odd[r - 1][0] == "x" or math.isnan(odd[r - 1][1])]
            assert torch.equal(found[key][same].isfinite(), finite[same]), key
            both = [torch.where(finite, other, 0) for other in (found[key], value)]
            torch.testing.assert_close(*both, rtol=tolerance, atol=tolerance, msg=key)


LONG = """
import torch, goldfish
from benchmarks.resident import now, peak
from goldfish.recurrent import Recurrent

recurrent = Recurrent("{name}", 4, 64, engine="cpu")
for T in (100, 100_000):
    before = now()
    outputs, _ = recurrent(torch.randn(1, 1, T, 4))
    with goldfish.gradient_flow(recurrent) as flow:
        outputs[:, :, -1].sum().backward()
assert torch.isfinite(flow.log2_norm["h"]).all()
print((peak() - before) / 1e6)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_a_hundred_thousand_steps(name: str) -> None:
    """Norms included, within 2 GB; what is kept of each step is its state and not its gates: 26 MB and not 150."""
    done = subprocess.run([sys.executable, "-c", LONG.format(name=name)], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 100


FORKED = """
import os, torch
torch.set_num_threads(2)
from goldfish.recurrent import Recurrent
recurrent = Recurrent("gru", 3, 16, replicas=4, engine="cpu")
inputs = torch.randn(4, 16, 9, 3)
outputs, _ = recurrent(inputs)
outputs.sum().backward()
child = os.fork()
if child == 0:
    again, _ = recurrent(inputs)
    again.sum().backward()
    os._exit(0 if torch.equal(again, outputs) else 3)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_after_a_fork() -> None:
    """torch's threads are gone in the child: it goes on alone."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], check=True, timeout=60)


HASHED = """
import hashlib, torch, goldfish
from goldfish.recurrent import Recurrent
torch.manual_seed(0)
recurrent = Recurrent("gru", 5, 40, num_layers=2, replicas=2, engine="cpu")
outputs, _ = recurrent(torch.randn(2, 13, 30, 5))
with goldfish.gradient_flow(recurrent) as flow:
    outputs.sin().sum().backward()
found = hashlib.sha256()
for value in (outputs, *(p.grad for p in recurrent.parameters()), flow.log2_norm["h"]):
    found.update(value.detach().contiguous().numpy().tobytes())
from goldfish.engines.cpu.product import ROWS
print(ROWS, found.hexdigest())
"""
AVX2 = "+64bit,+avx,+avx2,+bmi,+bmi2,+cx8,+f16c,+fma,+fxsr,+mmx,+popcnt,+sse,+sse2,+sse3,+sse4.1,+sse4.2,+ssse3"


@pytest.mark.slow
@pytest.mark.skipif(not product.WIDE, reason="this machine has no AVX-512 to compare with")
def test_the_same_bits_with_narrower_vectors(tmp_path: Path) -> None:
    """Kernels built for AVX2, with its tiles, give what those for AVX-512 give."""
    narrow = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": AVX2, "GOLDFISH_CACHE_DIR": str(tmp_path)}
    found = []
    for extra in ({}, narrow):
        done = subprocess.run(
            [sys.executable, "-c", HASHED], capture_output=True, text=True, check=True, env={**os.environ, **extra}
        )
        found.append(done.stdout.split())
    (wide_rows, wide), (narrow_rows, narrow_hash) = found
    assert (wide_rows, narrow_rows) == ("8", "4")
    assert wide == narrow_hash


@pytest.mark.parametrize("there", [True, False])
def test_kernels_are_kept_in_the_cache(there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba's folder is ours while a kernel is made, where there is one, and its own again afterwards."""
    kernel_cache.folder.cache_clear()
    before = kernel_cache.config.CACHE_DIR
    monkeypatch.setenv("GOLDFISH_CACHE_DIR", str(tmp_path) if there else "/proc/goldfish")
    try:
        place = kernel_cache.folder()
        assert (place is not None and place.parent == tmp_path) == there
        with kernel_cache.kept() as keep:
            assert keep == there
            assert str(place or "") == kernel_cache.config.CACHE_DIR
        assert before == kernel_cache.config.CACHE_DIR
    finally:
        kernel_cache.folder.cache_clear()


def test_what_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Recurrent("lstm", 2, 3).cell
    assert cpu.unavailable(cell, torch.float32) == ""
    assert "not in bfloat16" in cpu.unavailable(cell, torch.bfloat16)
    monkeypatch.setattr(type(cell), "__module__", "elsewhere")
    assert cpu.unavailable(cell, torch.float32) == "it has kernels for rnn, lstm and gru, not for lstm of elsewhere"


def test_flushing_to_zero_is_refused() -> None:
    subnormals.check()
    assert torch.set_flush_denormal(True)
    try:
        with pytest.raises(ConfigError, match="numbers below the normal range are flushed to zero"):
            subnormals.check()
    finally:
        torch.set_flush_denormal(False)
    subnormals.check()


def test_recompute_belongs_to_this_engine() -> None:
    recurrent = Recurrent("gru", 2, 3, engine="stepwise", recompute=True)
    with pytest.raises(ConfigError, match="recompute=True: only engine=cpu has it"):
        recurrent(torch.zeros(1, 1, 2, 2))


def test_a_norm_far_below_the_joint_one() -> None:
    """dL/dh_t 1e-25 of dL/dc_t: its squares are no float32, its norm is."""
    torch.manual_seed(0)
    own = Recurrent("lstm", 2, 16, engine="cpu")
    with torch.no_grad():
        own.get_parameter("weight_hh_l0").mul_(1e-25)
    eager = Recurrent("lstm", 2, 16, engine="eager", dtype=torch.float64)
    eager.load_state_dict(own.state_dict())
    inputs, cotangent = torch.randn(1, 2, 6, 2), torch.zeros(1, 2, 6, 16)
    cotangent[:, :, -1] = 1
    found, expected = step(own, inputs, cotangent), step(eager, inputs.double(), cotangent.double())
    assert float((expected["norm h"] - expected["norm c"])[..., :-1].max()) < -75
    for name in ("norm h", "norm c", "norm state"):
        assert relative_log2(found[name], expected[name]) <= 2e-6
