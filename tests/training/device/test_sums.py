"""Sums on a GPU: as exact as they can be, and the same bits however many runs there are. (They run on any device.)"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from goldfish.engines import select
from goldfish.engines.cuda import gemm
from goldfish.training.device import sums


@given(st.integers(1, 9), st.integers(1, 300), st.integers(0, 2**31))
def test_a_rows_sum_does_not_depend_on_the_others(R: int, n: int, seed: int) -> None:
    values = torch.randn(R, n, generator=torch.Generator().manual_seed(seed)) * 1e3
    together = sums.halved(values)
    alone = torch.cat([sums.halved(row.unsqueeze(0)) for row in values])
    assert torch.equal(together, alone)
    for found, row in zip(together.tolist(), values.tolist(), strict=True):
        size = sum(map(abs, row))
        assert abs(found - math.fsum(row)) <= math.ceil(math.log2(n) + 1) * 2.0**-53 * size


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_norms_and_means(dtype: torch.dtype) -> None:
    values = torch.arange(1.0, 11.0, dtype=dtype).expand(3, 10) * torch.tensor([[1], [2], [-3]])
    on_gpu = torch.device("meta")  # whose sums are those of a GPU
    assert sums.norms(values.to(on_gpu)).shape == sums.means(values.to(on_gpu)).shape == (3,)
    assert sums.halved(values).tolist() == [55.0, 110.0, -165.0]
    expected = math.sqrt(385) * torch.tensor([1.0, 2.0, 3.0], dtype=dtype)
    torch.testing.assert_close(sums.halved(values.double().square()).sqrt().to(dtype), expected, rtol=1e-7, atol=0)
    torch.testing.assert_close(sums.norms(values), expected)
    assert sums.means(values).tolist() == [5.5, 11.0, -16.5]


def test_a_gpu_with_kernels_takes_norms_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    values, own = torch.empty(3, 10, device="meta"), torch.tensor([1.0, 2.0, 3.0])
    monkeypatch.setattr(select, "has_own_products", lambda dtype: dtype == torch.float32)
    monkeypatch.setattr(gemm, "norms", lambda rows: own if rows is values else pytest.fail("other rows"))
    assert sums.norms(values) is own
    assert sums.norms(values.double()).is_meta  # by halves
