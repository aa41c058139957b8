"""What a caller has switched on in torch around a training moves no number of it, and is switched on afterwards."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.training.exactness import essence

import goldfish
from goldfish.config.config import Config, resolve
from goldfish.training.train import train

TRAINER = {"max_steps": 3, "validate_every": 2, "evaluation_size": 6, "batch_size": 4, "accelerator": "cpu"}


@contextmanager
def undone(change: Callable[[], object], back: Callable[[], object]) -> Iterator[None]:
    change()
    try:
        yield
    finally:
        back()


def deterministic(on: bool) -> None:
    torch.use_deterministic_algorithms(on)


SETTINGS: dict[str, list[Callable[[], AbstractContextManager[Any]]]] = {
    "autocast": [nullcontext, lambda: torch.autocast("cpu", torch.bfloat16)],
    "mode": [nullcontext, torch.inference_mode, torch.no_grad],
    "dtype": [
        nullcontext,
        lambda: undone(lambda: torch.set_default_dtype(torch.float64), lambda: torch.set_default_dtype(torch.float32)),
    ],
    "device": [nullcontext, lambda: torch.device("meta")],
    "deterministic": [nullcontext, lambda: undone(lambda: deterministic(True), lambda: deterministic(False))],
}
COMBINATIONS = list(product(*(range(len(choices)) for choices in SETTINGS.values())))
MODELS: list[dict[str, Any]] = [
    {"task": {"name": "adding", "length": 6}},
    {"task": {"name": "copying", "length": 3, "items": 2}, "engine": "stepwise"},
    {"task": {"name": "recall", "length": 5}, "engine": "eager", "model": {"dropout": 0.3}},
]


def configs(values: dict[str, Any]) -> list[Config]:
    shared = {"trainer": TRAINER, "cell": {"name": "gru", "hidden_size": 4}} | values
    return [resolve(shared | {"seed": seed, "init": init}) for seed, init in enumerate(("orthogonal", "pytorch"))]


@pytest.fixture(scope="module")
def plain() -> list[list[dict[str, Any]]]:
    return [[essence(outcome) for outcome in train(configs(values))] for values in MODELS]


def state() -> tuple[object, ...]:
    return (
        torch.is_autocast_enabled("cpu"),
        torch.is_inference_mode_enabled(),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.is_anomaly_enabled(),
        torch.get_float32_matmul_precision(),
    )


@pytest.mark.parametrize("chosen", COMBINATIONS, ids=lambda chosen: "".join(map(str, chosen)))
def test_every_combination(chosen: tuple[int, ...], plain: list[list[dict[str, Any]]]) -> None:
    which = COMBINATIONS.index(chosen) % len(MODELS)
    with ExitStack() as stack:
        for choices, index in zip(SETTINGS.values(), chosen, strict=True):
            stack.enter_context(choices[index]())
        before = state()
        found = train(configs(MODELS[which]))
        assert state() == before
    assert [essence(outcome) for outcome in found] == plain[which]


@contextmanager
def anomaly() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it is slow
        with torch.autograd.detect_anomaly():
            yield


def one_backend(precision: str) -> None:
    torch.backends.mkldnn.matmul.fp32_precision = precision  # type: ignore[attr-defined]


OTHERS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "anomaly": anomaly,
    **{
        word: lambda word=word: undone(  # type: ignore[misc]
            lambda: torch.set_float32_matmul_precision(word), lambda: torch.set_float32_matmul_precision("highest")
        )
        for word in ("high", "medium")
    },
    "one backend": lambda: undone(lambda: one_backend("bf16"), lambda: one_backend("ieee")),
    "float16": lambda: torch.autocast("cpu", torch.float16),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_settings(name: str, plain: list[list[dict[str, Any]]]) -> None:
    with OTHERS[name]():
        found = [[essence(outcome) for outcome in train(configs(values))] for values in MODELS]
        assert torch.is_anomaly_enabled() == (name == "anomaly")
        assert torch.is_autocast_enabled("cpu") == (name == "float16")
        if name in ("high", "medium"):
            assert torch.get_float32_matmul_precision() == name
    assert found == plain


def test_a_run_that_fails_leaves_them_as_they_were() -> None:
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        before = state()
        with pytest.raises(ValueError, match="may differ only"):
            goldfish.training.train.train_pack([configs(MODELS[0])[0], configs(MODELS[1])[0]])
        with pytest.raises(goldfish.errors.ConfigError, match="not finite"):
            train([resolve({"init": {"name": "gaussian", "sigma_w": 1e300}, "trainer": TRAINER})])
        assert state() == before


def test_a_trained_network_that_is_read_back(tmp_path: Path) -> None:
    (outcome,) = train(configs(MODELS[0])[:1])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(outcome.config.plain()))
    torch.save(outcome.state_dict, tmp_path / "weights.pt")
    with torch.inference_mode(), torch.device("meta"):
        module = goldfish.trained(tmp_path)
    for name, value in module.model.named_parameters():
        assert torch.equal(value[0], outcome.state_dict[name])
        assert value.requires_grad
        assert not value.is_inference()
