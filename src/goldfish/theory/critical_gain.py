"""Decay per step of an untrained cell at zero state, and the gain at which it neither vanishes nor explodes."""

from __future__ import annotations

import math

from goldfish.errors import ConfigError, nearest


def decay_per_step(cell: str, gain: float, bias: float = 0.0) -> float:
    """The factor by which a small gradient changes per step, for W_hh ~ N(0, gain²/H) and H → ∞.

    The spectral radius of the state Jacobian at h = c = 0 without inputs: by the circular law a matrix N(0, g²/H) has
    eigenvalues up to g, and at zero state every gate is what its bias makes of it. RNN (tanh): g. LSTM with all other
    biases zero: σ(b_f) + g/4. GRU: σ(b_z) + (1 - σ(b_z)) g/2. In the spirit of Fioratti, Marcaccioli, Casola 2026,
    "A random-matrix criterion for initializing gated recurrent neural networks" (arXiv 2605.10650).

    It holds for small states and lags of some tens of steps and more, and fails where the factor is above 1, for
    states grow until they saturate, and with large inputs.

    Args:
        cell: rnn, lstm or gru.
        gain: g.
        bias: b_f of the LSTM, b_z of the GRU; not read for the RNN.

    Raises:
        ConfigError: for another cell, and for a gain below zero.
    """
    _check(cell, gain)
    if cell == "rnn":
        return gain
    keep = _sigmoid(bias)
    return keep + gain / 4 if cell == "lstm" else keep + (1 - keep) * gain / 2


def critical_gain(cell: str, bias: float = 0.0) -> float:
    """The gain at which `decay_per_step` is 1: 1 for the RNN; at zero bias 2 for the LSTM and the GRU.

    LSTM: 4 (1 - σ(b_f)). GRU: 2 at every bias, since what z does not keep is new.

    Raises:
        ConfigError: for a cell other than rnn, lstm and gru.
    """
    _check(cell, 0.0)
    return {"rnn": 1.0, "lstm": 4 * _sigmoid(-bias), "gru": 2.0}[cell]


def _check(cell: str, gain: float) -> None:
    if cell not in ("rnn", "lstm", "gru"):
        raise ConfigError(f"cell={cell}: {nearest(cell, ('rnn', 'lstm', 'gru'))}")
    if not gain >= 0:
        raise ConfigError(f"gain={gain}: expected float ≥ 0")


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))
