"""What tests of tasks share: a task by name and arguments, and generators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from goldfish.config import registry
from goldfish.tasks.base import Task

Make = Callable[..., Task]


@pytest.fixture(scope="session")
def mnist_folder(data_folder: Path) -> Path:
    """The folder with MNIST's parquet files."""
    folder = data_folder / "mnist"
    if not folder.is_dir():
        pytest.skip(f"no MNIST: {folder} is not there (set GOLDFISH_DATA)")
    return folder


@pytest.fixture
def make(request: pytest.FixtureRequest) -> Make:
    """make(name, **arguments): a task; one that reads hub data takes it from the local folder or skips."""

    def build(name: str, **arguments: Any) -> Task:
        signature = registry.signature("task", name)
        if "HUB_ID" in signature.constants:
            arguments["data"] = str(request.getfixturevalue(f"{name}_folder"))
        if "HUB_IDS" in signature.constants:
            dataset = arguments.get("dataset", signature.parameters["dataset"].default)
            if dataset in signature.constants["HUB_IDS"]:
                folder = request.getfixturevalue("data_folder") / dataset
                if not folder.is_dir():
                    pytest.skip(f"no {dataset}: {folder} is not there (set GOLDFISH_DATA)")
                arguments["data"] = str(folder)
        return registry.load("task", name)(**arguments)

    return build


@pytest.fixture
def seeded() -> torch.Generator:
    """A generator with a fixed seed."""
    return torch.Generator().manual_seed(7)
