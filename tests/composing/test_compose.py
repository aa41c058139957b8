"""The composer beside its two references: Hydra composing everything itself, and `resolve` called from a notebook."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.types import RunMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from goldfish.composing import compose
from goldfish.composing.compose import Composer
from goldfish.config import config, moments, registry
from goldfish.config.config import resolve
from goldfish.config.signatures import Parameter
from goldfish.errors import ConfigError

CHOICES = [(group, name) for group in config.CHOICES for name in registry.names(group)]


def composed(composer: Composer, *lines: str) -> config.Config:
    return composer.config([composer.setting(line) for line in lines])


def suiting(group: str, name: str) -> dict[str, str]:
    """The choice, and a cell that suits it where it is an initialisation."""
    cells = registry.signature(group, name).constants.get("CELLS") if group == "init" else None
    return {group: name} | ({"cell": cells[0]} if cells else {})


def test_nothing_said_is_what_a_notebook_gets(composer: Composer) -> None:
    assert composed(composer) == resolve({})


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_choice_has_the_defaults_of_its_signature(composer: Composer, group: str, name: str) -> None:
    """conf/config.yaml shows values, and must not change what the signatures say."""
    chosen = suiting(group, name)
    assert composed(composer, *(f"{key}={value}" for key, value in chosen.items())) == resolve(chosen)


def test_the_machine_presets_are_the_accelerators(composer: Composer) -> None:
    for name in ("auto", "cpu", "gpu"):
        assert composed(composer, f"trainer={name}") == resolve({"trainer": {"accelerator": name}})


def values(parameter: Parameter) -> st.SearchStrategy[Any]:
    """Values that the parameter takes; some lie out of its bound."""
    if parameter.choices:
        some: st.SearchStrategy[Any] = st.sampled_from(parameter.choices)
    elif parameter.type is bool:
        some = st.booleans()
    elif parameter.type is int:
        some = st.integers(-1, 300)
    elif parameter.type is list:
        some = st.lists(st.sampled_from(moments.NAMED) | st.integers(-1, 300), max_size=4)
    elif parameter.type is float:
        some = st.floats(-0.5, 3.0, allow_nan=False)
    else:
        some = st.text(
            st.characters(codec="ascii", exclude_characters="$?{}", min_codepoint=32), min_size=1, max_size=8
        )
    return some | st.none() if parameter.optional else some


@st.composite
def overrides(draw: st.DrawFn) -> dict[str, Any]:
    """Some choices and some of their keys with values: {"cell": "lstm", "cell.hidden_size": 7, …}."""
    said: dict[str, Any] = {group: draw(st.sampled_from(registry.names(group))) for group in config.CHOICES}
    schemas = {group: config.schema(group, said.get(group)) for group in (*config.CHOICES, "trainer", "tracking")}
    keys = {f"{group}.{name}": item for group, schema in schemas.items() for name, item in schema.items()}
    keys |= config.top_level()
    for key in draw(st.lists(st.sampled_from(sorted(keys)), max_size=6, unique=True)):
        said[key] = draw(values(keys[key]))
    return said


def line(key: str, value: Any) -> str:
    """The override as somebody would type it."""
    if isinstance(value, str):
        return f"{key}={QuotedString(value, Quote.single).with_quotes()}"
    return f"{key}={'null' if value is None else repr(value).lower()}"


def nested(said: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {key: {"name": value} for key, value in said.items() if key in config.CHOICES}
    for key, value in said.items():
        group, _, inner = key.partition(".")
        if inner:
            result.setdefault(group, {})[inner] = value
        elif key not in config.CHOICES:
            result[key] = value
    return result


def outcome(function: Any) -> Any:
    try:
        return function()
    except ConfigError as error:
        return str(error)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=overrides())
def test_overrides_arrive_as_they_were_said(composer: Composer, said: dict[str, Any]) -> None:
    """Composed and resolved, or refused in the same words."""
    lines = [line(key, value) for key, value in said.items()]
    assert outcome(lambda: composed(composer, *lines)) == outcome(lambda: resolve(nested(said)))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=overrides())
def test_hydra_composes_the_same(composer: Composer, said: dict[str, Any]) -> None:
    lines = [line(key, value) for key, value in said.items()]
    container = OmegaConf.to_container(composer.loader.load_configuration("config", lines, RunMode.RUN))
    assert isinstance(container, dict)
    theirs = {str(key): value for key, value in container.items() if key != "hydra"}
    assert outcome(lambda: composed(composer, *lines)) == outcome(lambda: resolve(theirs))


def test_one_choice_is_composed_once(composer: Composer, counted: list[list[str]]) -> None:
    fresh = Composer(composer.loader)
    configs = [composed(fresh, "cell=lstm", f"seed={seed}", f"cell.hidden_size={seed + 1}") for seed in range(50)]
    assert counted == [["cell=lstm"]]
    assert [point["seed"] for point in configs] == list(range(50))
    assert [point["cell"]["hidden_size"] for point in configs] == list(range(1, 51))
    assert composed(fresh, "cell=lstm") == resolve({"cell": "lstm"})  # nothing of a run stayed behind


def test_choices_add_up_instead_of_multiplying(composer: Composer, counted: list[list[str]]) -> None:
    fresh = Composer(composer.loader)
    for cell in ("rnn", "lstm", "gru"):
        for init in ("pytorch", "orthogonal", "identity"):
            assert composed(fresh, f"cell={cell}", f"init={init}") == resolve({"cell": cell, "init": init})
    assert len(counted) == 1 + 3 + 3


def test_a_choice_that_reaches_beyond_its_group_is_composed_with_the_others(tmp_path: Path) -> None:
    """Somebody's own YAML file may set keys anywhere."""
    (tmp_path / "cell").mkdir()
    (tmp_path / "cell" / "small.yaml").write_text(
        "# @package _global_\ntrainer: {validate_every: 7}\ncell: {name: lstm}\n"
    )
    extended = Composer(compose.loader(compose.search_path(None, str(tmp_path))))
    assert composed(extended, "cell=gru", "init=identity") == resolve({"cell": "gru", "init": "identity"})
    both = composed(extended, "cell=small", "init=identity")
    assert both == resolve({"cell": "lstm", "init": "identity", "trainer": {"validate_every": 7}})


def test_somebodys_own_group_is_added_with_a_plus(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "long.yaml").write_text("# @package _global_\ntask: {length: 77}\n")
    extended = Composer(compose.loader(compose.search_path(None, str(tmp_path))))
    assert composed(extended, "+study=long")["task"]["length"] == 77
    with pytest.raises(ConfigError, match=r"^\+study=lang: did you mean 'long'"):
        extended.setting("+study=lang")


def test_a_config_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--config-dir=.*nowhere: no such folder"):
        compose.search_path(None, str(tmp_path / "nowhere"))


def test_values_may_refer_to_others(composer: Composer) -> None:
    point = composed(composer, "cell.hidden_size=24", "task.length=${cell.hidden_size}", "seed=${task.length}")
    assert (point["task"]["length"], point["seed"]) == (24, 24)
    assert composed(composer, "cell={hidden_size:24,num_layers:2}")["cell"]["num_layers"] == 2


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("task.length=${nope}", r"^task.length=\$\{nope\}: Interpolation key 'nope' not found$"),
        ("seed=${seed}", r"^seed=\$\{seed\}: Recursive interpolation"),
        ("task.length=${oc.env:NO_SUCH_VARIABLE}", "^task.length=.*'NO_SUCH_VARIABLE' not found"),
        ("seed='???'", "expected a value"),
        ("cell.name=lstm", "write cell=lstm"),
        ("cell={name:lstm}", "write cell=lstm"),
        ("cell.hidden_size.deep=1", "unknown key"),
        ("cell=lstm cell.nonlinearity=relu", "^cell.nonlinearity=relu: cell=lstm has no .*it belongs to cell=.*rnn"),
        ("cell={depth:1}", r"^cell.depth=.*unknown key; choices: hidden_size"),
    ],
)
def test_what_only_composing_shows(composer: Composer, said: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        composed(composer, *said.split())


def test_hydras_own_overrides_are_named_when_they_are_wrong() -> None:
    with pytest.raises(ConfigError, match=r"^Could not override 'hydra.jbo'\.$"):
        Composer(compose.loader(), hydra=["hydra.verbose=true", "hydra.jbo=1"]).master()


def test_equal_runs_count_once(composer: Composer) -> None:
    points = [[composer.setting(text)] for text in ("seed=1", "seed=2", "seed=1", "optimizer.lr=1e-3", "seed=0")]
    kept = [str(point[0]) for point, _ in composer.distinct(points)]
    assert kept == ["seed=1", "seed=2", "optimizer.lr=0.001"]


def test_the_conf_folder_of_an_installed_package_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "goldfish"
    shutil.copytree(compose.conf_folder(), package / "conf")
    monkeypatch.setattr("goldfish.__file__", str(package / "__init__.py"))
    assert compose.conf_folder() == package / "conf"
    shutil.rmtree(package / "conf")
    assert compose.conf_folder() == tmp_path / "conf"
