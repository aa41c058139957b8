"""The prepared views: what the UI's front end is told, short of drawing it."""

from __future__ import annotations

import json

import pytest
from tests.tracking.outcomes import make_outcome, record

from goldfish.errors import ConfigError
from goldfish.tracking import views
from goldfish.tracking.store import Store

ARMS = [("rnn", "pytorch"), ("lstm", "chrono")]


def tags(store: Store) -> dict[str, str]:
    return dict(store.client.get_experiment(store.experiment("study")).tags)


def state(store: Store, view: str) -> dict:
    return views.unpack(json.loads(tags(store)[f"mlflow.sharedViewState.{view}"])["state"])


def fill(store: Store) -> None:
    for index, (cell, init) in enumerate(ARMS):
        for seed in (0, 1):
            record(store, make_outcome(cell, init, 20, seed, started=1e9 + index))


def test_the_first_view_groups_by_all_but_the_seed(store: Store):
    fill(store)
    views.prepare_views(store, "study")
    found = state(store, views.AVERAGES)
    keys = [{"mode": "tag", "groupByData": "goldfish.group"}]
    assert found["groupBy"] == {"aggregateFunction": "average", "groupByKeys": keys}
    assert found["groupsExpanded"] == {
        "tag.goldfish.group.20·lstm·chrono recall": False,
        "tag.goldfish.group.20·rnn·pytorch recall": False,
    }
    assert found["runsHiddenMode"] == "SHOW_ALL"
    charts = {chart.get("metricKey") for chart in found["compareRunCharts"] if chart["type"] == "LINE"}
    assert {"gradient/log10_norm_by_lag_before", "gradient/log10_norm_by_lag", "recall/accuracy_by_length"} <= charts
    assert {"recall/accuracy_by_lag", "val/accuracy", "val/loss"} <= charts
    assert "PARALLEL" in {chart["type"] for chart in found["compareRunCharts"]}


def test_runs_of_another_size_or_rate_are_never_averaged_together(store: Store):
    fill(store)
    other = make_outcome("rnn", "pytorch", 20, 2)
    other.config |= {"optimizer": {"lr": 0.5}, "task": {**other.config.task, "symbols": 4}}
    record(store, other)
    views.prepare_views(store, "study")
    found = state(store, views.AVERAGES)
    by = [key["groupByData"] for key in found["groupBy"]["groupByKeys"]]
    assert by[0] == "goldfish.group"
    assert "lr" in by
    lr = by.index("lr")
    groups = {tuple(part.rpartition(".")[2] for part in group.split(",param.")) for group in found["groupsExpanded"]}
    assert len(groups) == 3
    assert {group[lr] for group in groups} >= {"5"}
    assert "seed" not in by


def test_settings_that_follow_from_the_length_do_not_split(store: Store):
    for length, steps in ((20, 100), (40, 200)):
        for seed in (0, 1):
            outcome = make_outcome("lstm", "chrono", length, seed)
            outcome.config |= {"trainer": {"max_steps": steps}}
            record(store, outcome)
    assert views.split_by(store.runs("study")) == []


def test_the_second_view_shows_every_run_with_its_key_columns(store: Store):
    fill(store)
    views.prepare_views(store, "study")
    found = state(store, views.ALL_RUNS)
    assert found["groupBy"] is None
    columns = found["selectedColumns"]
    assert {"params.`cell`", "params.`init`", "params.`length`", "params.`seed`", "tags.`goldfish.outcome`"} <= set(
        columns
    )
    assert {"metrics.`test/accuracy`", "metrics.`recall/horizon`", "metrics.`gradient/horizon_before`"} <= set(columns)
    assert set(columns) <= set(found["columnOrder"])
    assert set(columns) <= set(found["columnWidths"])


def test_every_chart_stands_in_a_section_and_has_an_id_of_its_own(store: Store):
    fill(store)
    views.prepare_views(store, "study")
    for view in views.TITLES:
        found = state(store, view)
        sections = [section["uuid"] for section in found["compareRunSections"]]
        charts = [chart["uuid"] for chart in found["compareRunCharts"]]
        assert len(set(sections + charts)) == len(sections + charts)
        assert {chart["metricSectionId"] for chart in found["compareRunCharts"]} <= set(sections)
        names = [section["name"] for section in found["compareRunSections"]]
        assert len(set(names)) == len(names)


def test_preparing_twice_changes_nothing_and_new_runs_only_what_they_change(store: Store):
    fill(store)
    views.prepare_views(store, "study")
    before = tags(store)
    assert max(map(len, before.values())) < 20_000  # what MLflow keeps of an experiment's tag
    views.prepare_views(store, "study")
    assert tags(store) == before
    record(store, make_outcome("gru", "chrono", 20))
    views.prepare_views(store, "study")
    after = tags(store)
    assert set(after) == set(before)
    key = f"mlflow.sharedViewState.{views.AVERAGES}"
    assert json.loads(after[key])["createdAt"] == json.loads(before[key])["createdAt"]
    assert "tag.goldfish.group.20·gru·chrono recall" in state(store, views.AVERAGES)["groupsExpanded"]
    assert "5 runs" in after["mlflow.note.content"]


def test_a_description_that_somebody_wrote_stays(store: Store):
    fill(store)
    store.client.set_experiment_tag(store.experiment("study"), "mlflow.note.content", "My notes.")
    views.prepare_views(store, "study")
    assert tags(store)["mlflow.note.content"] == "My notes."


def test_an_experiment_that_is_not_there_is_named(store: Store):
    fill(store)
    with pytest.raises(ConfigError, match=r"studdy: no such experiment in this store; did you mean 'study'"):
        views.prepare_views(store, "studdy")


def test_views_of_an_experiment_without_runs(store: Store):
    store.experiment("study")
    views.prepare_views(store, "study")
    assert "0 runs" in tags(store)["mlflow.note.content"]
