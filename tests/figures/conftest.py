"""The synthetic sweep, whole and with holes."""

from __future__ import annotations

import pandas as pd
import pytest
from tests.figures.sweeps import make_holed_sweep, make_sweep


@pytest.fixture(scope="session")
def whole() -> tuple[pd.DataFrame, pd.DataFrame]:
    return make_sweep()


@pytest.fixture(scope="session")
def holed() -> tuple[pd.DataFrame, pd.DataFrame]:
    return make_holed_sweep()
