"""The same runs with one worker or two, in another order, in other packs: the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.faults import sweeps
from tests.faults.conftest import Whole


@pytest.mark.parametrize(
    "more",
    [
        ["hydra.launcher.workers=1", "hydra.launcher.pack_size=auto"],
        ["seed=4,1,5,0,3,2", "init=orthogonal,pytorch", "cell=lstm,rnn", "hydra.launcher.pack_size=5"],
        ["seed=5,4,3,2,1,0", "hydra.launcher.workers=1", "hydra.launcher.pack_size=1"],
    ],
)
@pytest.mark.slow
def test_another_order_and_other_packs(more: list[str], whole: Whole, tmp_path: Path) -> None:
    sweeps.finish(tmp_path, *more)
    sweeps.check_whole(tmp_path, whole.contents)
