"""The papers' experiments: each composes at each scale, with the settings that published.csv says the paper had."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from goldfish.composing.compose import Composer, loader
from goldfish.config.config import Config
from goldfish.papers import experiment, published
from goldfish.papers.plan import plan
from goldfish.tracking.names import flatten

PAPERS = [name for name, folder in sorted(experiment.folders().items()) if published.read(folder)]
ITEMS = {
    *("schmidt2021_adding", "chen2018_mean_field", "tallec2018_chrono", "bai2018_table1", "bai2018_figure5"),
    *("pascanu2013_temporal_order", "le2015_irnn", "hochreiter1997_adding", "hochreiter1997_temporal_order"),
    *("cooijmans2017_gradient", "lstm_on_smnist"),
}


@cache
def configs(name: str, scale: str) -> list[Config]:
    planned = plan(experiment.read(name), scale, Composer(loader()))
    trials = planned.trials.runs if planned.trials else []
    return list(planned.runs({trial.group: trial.candidate for trial in trials}))  # whichever: only the rates differ


def test_every_paper_has_its_folder() -> None:
    assert set(PAPERS) == ITEMS


@pytest.mark.parametrize("scale", ["smoke", "cpu", "gpu"])
@pytest.mark.parametrize("name", PAPERS)
def test_it_composes(name: str, scale: str) -> None:
    assert len(configs(name, scale)) >= 2


@pytest.mark.parametrize("scale", ["cpu", "gpu"])
@pytest.mark.parametrize("name", PAPERS)
def test_settings_are_the_papers(name: str, scale: str) -> None:
    """Of every run, which may be shorter, and of which there may be fewer, but which is no other thing."""
    wanted = published.settings(experiment.folder(name))
    for config in configs(name, scale):
        found: dict[str, Any] = flatten(config) | {
            group: config[group]["name"] for group in ("cell", "task", "optimizer")
        }
        for key, value in wanted.items():
            if key.startswith("cell.hidden") and config["model"]["name"] != "recurrent":
                continue
            assert key in found, key
            assert published._same(found[key], value), (key, found[key], value)


@pytest.mark.parametrize("name", PAPERS)
def test_every_number_has_a_source_and_how_it_was_read(name: str) -> None:
    for claim in published.read(experiment.folder(name)):
        assert claim.source, claim.claim
        assert claim.read, claim.claim
        assert claim.metric
        assert (claim.rule in ("more", "less", "ratio")) == bool(claim.versus), claim.claim
        if claim.rule in ("success", "value", "above", "below", "ratio", "note"):
            assert claim.value == claim.value, claim.claim
        if claim.rule == "value":
            assert claim.tolerance > 0
        if claim.rule == "success":
            assert 0 <= claim.value <= claim.n


@pytest.mark.parametrize(
    ("name", "cell", "expected"),
    [
        ("schmidt2021_adding", "lstm", {"init": "unit_forget", "init.b_f": 1.0, "trainer.gradient_clip_val": None}),
        ("tallec2018_chrono", "lstm", {"trainer.batch_size": 20}),
        ("bai2018_figure5", "gru", {"trainer.gradient_clip_val": 1.0, "task.items": 10}),
        ("le2015_irnn", "lstm", {"init": "unit_forget", "init.b_f": 1.0}),
    ],
)
def test_what_a_paper_says_of_one_cell(name: str, cell: str, expected: dict[str, Any]) -> None:
    rows = [flatten(config) | {"init": config["init"]["name"]} for config in configs(name, "cpu")]
    own = [row for row, config in zip(rows, configs(name, "cpu"), strict=True) if config["cell"]["name"] == cell]
    kept = [row for row in own if row["init"] != "chrono"]
    assert kept
    assert all(expected.items() <= row.items() for row in kept)


def test_inputs_of_the_irnn_of_schmidt() -> None:
    """W_ih ~ N(0, 1)/H with H = 40."""
    inits = [config["init"] for config in configs("schmidt2021_adding", "cpu") if config["init"]["name"] == "identity"]
    assert inits
    assert all(init["input_std"] == pytest.approx(1 / 40) for init in inits)


def test_gaussian_weights_of_pascanu_have_their_std() -> None:
    for config in configs("pascanu2013_temporal_order", "cpu"):
        if config["init"]["name"] == "gaussian":
            std = 0.01 if config["cell"]["nonlinearity"] == "sigmoid" else 0.1
            assert config["init"]["sigma_w"] / 50**0.5 == pytest.approx(std)
            assert config["init"]["sigma_u"] / 6**0.5 == pytest.approx(std)


def test_input_variance_of_mean_field() -> None:
    found = set()
    for config in configs("chen2018_mean_field", "cpu"):
        if config["init"]["name"] == "gaussian":
            symbols = {"temporal_order": 6, "recall": 10}[config["task"]["name"]]
            found.add(round(config["init"]["sigma_u"] ** 2 / symbols, 9))
            assert config["cell"]["hidden_size"] >= (256 if config["task"]["name"] == "temporal_order" else 128)
    assert found == {0.05, 0.1, 0.5}
