"""Names in MLflow: each value once, and back again with its type."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tracking.outcomes import make_outcome

from goldfish.config.config import resolve
from goldfish.tracking import names


def test_every_key_is_one_parameter_and_comes_back_with_its_type():
    config = resolve({"cell": "lstm", "init": "chrono", "task": "recall", "trainer": {"gradient_clip_val": None}})
    parameters = names.parameters(config)
    flat = names.flatten(config)
    assert len(parameters) == len(flat) == len(set(parameters))
    assert parameters["cell"] == "lstm"
    assert parameters["hidden"] == "32"
    assert "cell.hidden_size" not in parameters
    assert parameters["trainer.gradient_clip_val"] == "None"
    back = names.typed(parameters)
    assert back == flat
    assert {key: type(value) for key, value in back.items()} == {key: type(value) for key, value in flat.items()}


@given(st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none()))
def test_numbers_survive_as_text(value):
    (back,) = names.typed({"x": str(value)}).values()
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("text", ["auto", "32-true", "nan", "inf", "1e", "", "1_000", "0x10", "v1.2", "-"])
def test_words_stay_words(text):
    assert names.typed({"x": text}) == {"x": text}


def test_curves_are_told_apart_by_their_metric():
    curves = {
        ("val/loss", "training"),
        ("gradient/norm", "before"),
        ("gradient/norm", "after"),
        ("gradient/norm", "half"),
    }
    found = names.curve_metrics(names.curve_index(curves))
    assert set(found.values()) == curves
    assert found["gradient/norm_before"] == ("gradient/norm", "before")
    assert found["gradient/norm"] == ("gradient/norm", "after")


def test_two_curves_never_share_a_metric():
    with pytest.raises(ValueError, match="share the metric val/loss"):
        names.curve_index([("val/loss", "training"), ("val/loss", "after")])


def test_a_tag_too_long_for_mlflow_is_refused_not_cut():
    with pytest.raises(ValueError, match="8000"):
        names.curve_index([(f"quantity/{index:0100d}", "after") for index in range(100)])


def test_a_run_can_be_read_by_its_name_and_description():
    outcome = make_outcome("lstm", "chrono", 80, 3)
    assert names.run_name(outcome.config) == "lstm·chrono·recall T=80 seed 3"
    text = names.description(outcome)
    assert "T = 80, H = 32, seed 3" in text
    assert "Solved at training step 250" in text
    assert "Gradient horizon before training: ≥ 80" in text
    assert names.description(make_outcome(verdict="diverged", reason="loss became nan at step 120")).count(
        "nan at step 120"
    )


def test_runs_sort_by_seed_and_then_by_length_as_a_number():
    places = [("rnn", 100, 0), ("rnn", 20, 1), ("gru", 20, 0), ("rnn", 20, 0)]
    order = sorted(places, key=lambda place: names.order(make_outcome(place[0], "pytorch", *place[1:]).config))
    assert order == [("gru", 20, 0), ("rnn", 20, 0), ("rnn", 100, 0), ("rnn", 20, 1)]


def test_only_a_run_recorded_to_its_end_counts():
    assert names.whole("FINISHED", "diverged")
    assert names.whole("FAILED", "failed")
    for status, outcome in (("RUNNING", "solved"), ("FAILED", "solved"), ("FINISHED", None), ("FINISHED", "failed")):
        assert not names.whole(status, outcome)
