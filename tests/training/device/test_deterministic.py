"""On a GPU torch's deterministic kernels are asked for, and what has none is told on the run."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.utils.deterministic

from goldfish.config.config import Config
from goldfish.tracking import names
from goldfish.tracking.run import new_run
from goldfish.training import train
from goldfish.training.device.deterministic import deterministic

MESSAGE = "{} does not have a deterministic implementation, but you set 'torch.use_deterministic_algorithms(True)'"


def _fills() -> bool:
    settings: Any = torch.utils.deterministic
    return bool(settings.fill_uninitialized_memory)


def test_on_a_cpu_nothing_changes() -> None:
    with deterministic(torch.device("cpu")) as found:
        assert not torch.are_deterministic_algorithms_enabled()
    assert found == set()


def test_what_has_no_deterministic_kernel_is_named() -> None:
    with deterministic(torch.device("cuda")) as found:
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert not _fills()  # one more kernel for each new tensor
        for name in ("cumsum_cuda_kernel", "put_", "put_"):
            warnings.warn(MESSAGE.format(name), stacklevel=1)
        with pytest.warns(UserWarning, match="something else"):
            warnings.warn("something else", stacklevel=1)
    assert found == {"cumsum_cuda_kernel", "put_"}
    assert _fills()  # torch's default
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
    assert names.NONDETERMINISTIC not in new_run(clean, {}).tags
    assert new_run(outcome, {}).tags[names.NONDETERMINISTIC] == outcome.nondeterministic


def test_a_gpu_that_is_not_asked_for_is_no_warning(
    small: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning would tell of it in every fit."""
    accelerator = "pytorch_lightning.trainer.setup.CUDAAccelerator.is_available"
    monkeypatch.setattr(accelerator, staticmethod(lambda: True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train.train_pack([small()])
