"""On a GPU torch's deterministic kernels are asked for, and what has none is told on the run."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch

from goldfish.config import Config
from goldfish.tracking import names, new_run
from goldfish.training import train
from goldfish.training.deterministic import deterministic

MESSAGE = "{} does not have a deterministic implementation, but you set 'torch.use_deterministic_algorithms(True)'"


def test_on_a_cpu_nothing_changes() -> None:
    with deterministic(torch.device("cpu")) as found:
        assert not torch.are_deterministic_algorithms_enabled()
    assert found == set()


def test_what_has_no_deterministic_kernel_is_named() -> None:
    with deterministic(torch.device("cuda")) as found:
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        for name in ("cumsum_cuda_kernel", "put_", "put_"):
            warnings.warn(MESSAGE.format(name), stacklevel=1)
        with pytest.warns(UserWarning, match="something else"):
            warnings.warn("something else", stacklevel=1)
    assert found == {"cumsum_cuda_kernel", "put_"}
    assert not torch.are_deterministic_algorithms_enabled()


def test_settings_come_back_after_an_error() -> None:
    with pytest.raises(RuntimeError, match="broken"), deterministic(torch.device("cuda")):
        raise RuntimeError("broken")
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_run_is_tagged(small: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    fit = train._fit

    def warned(*arguments: object) -> None:
        fit(*arguments)  # type: ignore[arg-type]
        warnings.warn(MESSAGE.format("put_"), stacklevel=1)

    (clean,) = train.train_pack([small()])
    monkeypatch.setattr(train, "_fit", warned)
    monkeypatch.setattr(train, "deterministic", lambda device: deterministic(torch.device("cuda")))
    (outcome,) = train.train_pack([small()])
    assert clean.nondeterministic == ""
    assert outcome.nondeterministic == "put_ has no deterministic implementation"
    assert names.NONDETERMINISTIC not in new_run.run_tags(clean)
    assert new_run.run_tags(outcome)[names.NONDETERMINISTIC] == outcome.nondeterministic
