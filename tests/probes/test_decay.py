"""Decay rate, half-life and gradient horizon, on curves whose numbers are known."""

from __future__ import annotations

import math

import pytest
import torch

from goldfish.probes.gradient_flow import by_lag, decay


def exponential(rate: float, steps: int, samples: int = 5) -> torch.Tensor:
    """log2 norms of ‖g‖ = s·exp(rate·k) for samples of different size s: (B, K)."""
    sizes = torch.arange(1, samples + 1, dtype=torch.float64).log2().unsqueeze(1)
    return sizes + rate * torch.arange(steps, dtype=torch.float64) / math.log(2)


@pytest.mark.parametrize("rate", [-0.7, -0.1, -3.0])
def test_an_exponential_has_its_rate_half_life_and_horizon(rate: float) -> None:
    found = decay(exponential(rate, 60))
    assert found is not None
    assert found.decay_rate == pytest.approx(rate, rel=1e-12)
    assert found.half_life == pytest.approx(math.log(2) / -rate)
    assert found.horizon == math.floor(math.log(100) / -rate)  # down to 1 %
    assert not found.reached_end
    assert found.log10_norm[0].item() == pytest.approx(math.log10(3))  # the median of 1 … 5
    assert (found.lower[0].item(), found.upper[0].item()) == pytest.approx((math.log10(2), math.log10(4)))


def test_one_that_does_not_fall_reaches_the_end() -> None:
    found = decay(exponential(0.01, 60))
    assert found is not None
    assert (found.horizon, found.reached_end, found.half_life) == (59, True, None)


def test_a_horizon_ends_at_the_first_lag_below_one_percent() -> None:
    curve = torch.zeros(1, 6, dtype=torch.float64)
    curve[0, 3] = math.log2(0.0099)
    found = decay(curve)
    assert found is not None
    assert (found.horizon, found.reached_end) == (2, False)


def test_samples_without_a_final_gradient_are_counted_and_left_out() -> None:
    norms = torch.cat([exponential(-0.5, 20), torch.full((3, 20), -torch.inf, dtype=torch.float64)])
    found, alone = decay(norms), decay(exponential(-0.5, 20))
    assert found is not None
    assert alone is not None
    assert (found.zero_samples, found.decay_rate) == (3, alone.decay_rate)
    assert decay(torch.full((3, 20), -torch.inf)) is None


def test_the_slope_is_fitted_up_to_the_first_zero() -> None:
    norms = exponential(-0.5, 20)
    norms[:, 8:] = -torch.inf
    found = decay(norms)
    assert found is not None
    assert found.decay_rate == pytest.approx(-0.5)


def test_lags_are_counted_from_each_samples_last_unmasked_step() -> None:
    norms = torch.tensor([[10.0, 11, 12, 13], [20, 21, 22, 23]]).expand(2, 2, 4)  # (R, B, T)
    mask = torch.tensor([[True, False, False, True], [False, True, False, False]])
    expected = torch.tensor([[13, 12, 11, 10], [21, 20, math.nan, math.nan]])
    torch.testing.assert_close(by_lag(norms, mask)[1], expected, equal_nan=True)
