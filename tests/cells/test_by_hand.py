"""Three steps of one unit on paper: states, adjoints and weight gradients by the cell's equations, without its code.

Loss: the last state h_3. Every case writes out its scalar recursion forwards and then backwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

import goldfish

X = (0.5, -1.2, 0.8)
H_0, C_0 = 0.3, -0.4


def sigmoid(a: float) -> float:
    return 1 / (1 + math.exp(-a))


@dataclass
class Paper:
    """What the hand calculation found: lists run over t = 1, 2, 3; weights and their gradients over gates."""

    weights: dict[str, list[float]]
    h: list[float]
    adjoint_h: list[float]
    gradients: dict[str, list[float]]
    inputs: list[float]
    initial: dict[str, float]
    c: list[float] = field(default_factory=list)
    adjoint_c: list[float] = field(default_factory=list)
    at_fixed_h: list[float] = field(default_factory=list)  # ∂L/∂c_t


def rnn(nonlinearity: str) -> Paper:
    w, u, b, v = 0.7, -0.9, 0.1, 0.2  # W_ih, W_hh, b_ih, b_hh
    phi = {"tanh": math.tanh, "relu": lambda a: max(a, 0.0), "identity": lambda a: a}[nonlinearity]
    slope = {
        "tanh": lambda a: 1 - math.tanh(a) ** 2,
        "relu": lambda a: 1.0 if a > 0 else 0.0,
        "identity": lambda a: 1.0,
    }[nonlinearity]
    a1 = w * X[0] + b + u * H_0 + v
    a2 = w * X[1] + b + u * phi(a1) + v
    a3 = w * X[2] + b + u * phi(a2) + v
    d3 = 1.0
    d2 = d3 * slope(a3) * u
    d1 = d2 * slope(a2) * u
    d0 = d1 * slope(a1) * u
    e1, e2, e3 = d1 * slope(a1), d2 * slope(a2), d3 * slope(a3)  # dL/da_t
    return Paper(
        weights={"weight_ih": [w], "weight_hh": [u], "bias_ih": [b], "bias_hh": [v]},
        h=[phi(a1), phi(a2), phi(a3)],
        adjoint_h=[d1, d2, d3],
        gradients={
            "weight_ih": [e1 * X[0] + e2 * X[1] + e3 * X[2]],
            "weight_hh": [e1 * H_0 + e2 * phi(a1) + e3 * phi(a2)],
            "bias_ih": [e1 + e2 + e3],
            "bias_hh": [e1 + e2 + e3],
        },
        inputs=[e1 * w, e2 * w, e3 * w],
        initial={"h": d0},
    )


def lstm() -> Paper:
    w, u = [0.7, -0.4, 0.9, 0.3], [-0.9, 0.6, 0.5, 1.1]  # gates i, f, g, o
    b, v = [0.1, 0.5, -0.2, 0.2], [0.2, 0.4, 0.1, -0.3]
    h, c = [H_0], [C_0]
    gates = []
    for x in X:
        a = [w[k] * x + b[k] + u[k] * h[-1] + v[k] for k in range(4)]
        i, f, g, o = sigmoid(a[0]), sigmoid(a[1]), math.tanh(a[2]), sigmoid(a[3])
        c.append(f * c[-1] + i * g)
        h.append(o * math.tanh(c[-1]))
        gates.append((i, f, g, o))
    dh, fixed = 1.0, 0.0  # dL/dh_3; ∂L/∂c_3 at fixed h_3
    adjoint_h: list[float] = []
    adjoint_c: list[float] = []
    at_fixed_h: list[float] = []
    by_gate: list[list[float]] = []
    for t in (3, 2, 1):
        i, f, g, o = gates[t - 1]
        dc = fixed + dh * o * (1 - math.tanh(c[t]) ** 2)
        e = [dc * g * i * (1 - i), dc * c[t - 1] * f * (1 - f), dc * i * (1 - g**2), dh * math.tanh(c[t]) * o * (1 - o)]
        adjoint_h.insert(0, dh)
        adjoint_c.insert(0, dc)
        at_fixed_h.insert(0, fixed)
        by_gate.insert(0, e)
        dh, fixed = sum(u[k] * e[k] for k in range(4)), dc * f
    return Paper(
        weights={"weight_ih": w, "weight_hh": u, "bias_ih": b, "bias_hh": v},
        h=h[1:],
        c=c[1:],
        adjoint_h=adjoint_h,
        adjoint_c=adjoint_c,
        at_fixed_h=at_fixed_h,
        gradients={
            "weight_ih": [sum(by_gate[t][k] * X[t] for t in range(3)) for k in range(4)],
            "weight_hh": [sum(by_gate[t][k] * h[t] for t in range(3)) for k in range(4)],
            "bias_ih": [sum(e[k] for e in by_gate) for k in range(4)],
            "bias_hh": [sum(e[k] for e in by_gate) for k in range(4)],
        },
        inputs=[sum(w[k] * e[k] for k in range(4)) for e in by_gate],
        initial={"h": dh, "c": fixed},
    )


def gru() -> Paper:
    w, u = [0.7, -0.4, 0.9], [-0.9, 0.6, 0.5]  # gates r, z, n
    b, v = [0.1, 0.5, -0.2], [0.2, 0.4, 0.1]
    h = [H_0]
    gates = []
    for x in X:
        r = sigmoid(w[0] * x + b[0] + u[0] * h[-1] + v[0])
        z = sigmoid(w[1] * x + b[1] + u[1] * h[-1] + v[1])
        inner = u[2] * h[-1] + v[2]
        n = math.tanh(w[2] * x + b[2] + r * inner)
        h.append((1 - z) * n + z * h[-1])
        gates.append((r, z, n, inner))
    dh = 1.0
    adjoint_h: list[float] = []
    on_input: list[list[float]] = []
    on_hidden: list[list[float]] = []
    for t in (3, 2, 1):
        r, z, n, inner = gates[t - 1]
        dn = dh * (1 - z) * (1 - n**2)
        dr, dz = dn * inner * r * (1 - r), dh * (h[t - 1] - n) * z * (1 - z)
        adjoint_h.insert(0, dh)
        on_input.insert(0, [dr, dz, dn])
        on_hidden.insert(0, [dr, dz, dn * r])
        dh = dh * z + u[0] * dr + u[1] * dz + u[2] * dn * r
    return Paper(
        weights={"weight_ih": w, "weight_hh": u, "bias_ih": b, "bias_hh": v},
        h=h[1:],
        adjoint_h=adjoint_h,
        gradients={
            "weight_ih": [sum(on_input[t][k] * X[t] for t in range(3)) for k in range(3)],
            "weight_hh": [sum(on_hidden[t][k] * h[t] for t in range(3)) for k in range(3)],
            "bias_ih": [sum(e[k] for e in on_input) for k in range(3)],
            "bias_hh": [sum(e[k] for e in on_hidden) for k in range(3)],
        },
        inputs=[sum(w[k] * e[k] for k in range(3)) for e in on_input],
        initial={"h": dh},
    )


PAPERS = {
    "rnn-tanh": rnn("tanh"),
    "rnn-relu": rnn("relu"),
    "rnn-identity": rnn("identity"),
    "lstm": lstm(),
    "gru": gru(),
}


def close(values: torch.Tensor | None, expected: list[float]) -> None:
    assert values is not None
    torch.testing.assert_close(
        values.detach().flatten(), torch.tensor(expected, dtype=torch.float64), rtol=1e-13, atol=1e-15
    )


@pytest.mark.parametrize("engine", ["eager", "stepwise", "cpu"])
@pytest.mark.parametrize("name", PAPERS)
def test_three_steps(name: str, engine: str) -> None:
    paper = PAPERS[name]
    cell, _, nonlinearity = name.partition("-")
    arguments: dict[str, Any] = {"nonlinearity": nonlinearity} if nonlinearity else {}
    recurrent = goldfish.Recurrent(cell, 1, 1, engine=engine, dtype=torch.float64, **arguments)
    with torch.no_grad():
        for key, values in paper.weights.items():
            parameter = recurrent.get_parameter(f"{key}_l0")
            parameter.copy_(torch.tensor(values, dtype=torch.float64).view(parameter.shape))
    inputs = torch.tensor(X, dtype=torch.float64).view(1, 1, 3, 1).requires_grad_()
    start = {"h": H_0, "c": C_0}
    state = {
        key: torch.full((1, 1, 1, 1), start[key], dtype=torch.float64, requires_grad=True)
        for key in recurrent.cell.states
    }
    outputs, final = recurrent(inputs, state)
    with goldfish.gradient_flow(recurrent) as flow:
        outputs[0, 0, 2, 0].backward()
    close(outputs, paper.h)
    close(final["h"], paper.h[-1:])
    close(2 ** flow.log2_norm["h"], [abs(d) for d in paper.adjoint_h])
    close(inputs.grad, paper.inputs)
    for key, value in paper.gradients.items():
        close(recurrent.get_parameter(f"{key}_l0").grad, value)
    for key, expected in paper.initial.items():
        close(state[key].grad, [expected])
    fixed = paper.at_fixed_h or [0.0] * 3
    close(2 ** flow.log2_norm["state"], [math.hypot(d, e) for d, e in zip(paper.adjoint_h, fixed, strict=True)])
    if paper.c:
        close(final["c"], paper.c[-1:])
        close(2 ** flow.log2_norm["c"], [abs(d) for d in paper.adjoint_c])


def test_the_relu_case_crosses_a_kink() -> None:
    """Otherwise it would be the identity again: a_2 < 0, so dL/dh_1 = 0."""
    relu, identity = PAPERS["rnn-relu"], PAPERS["rnn-identity"]
    assert relu.h != identity.h
    assert relu.adjoint_h != identity.adjoint_h
