"""Composing configurations with Hydra: once per distinct choice of groups, then copied and filled with values.

Hydra takes tens of milliseconds per composition, a copy microseconds, and a thousand runs make few distinct choices.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.core.utils import setup_globals
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

import goldfish
from goldfish.composing import overrides
from goldfish.composing.overrides import Setting
from goldfish.config import config, registry
from goldfish.config.config import Config
from goldfish.config.signatures import Parameter
from goldfish.errors import ConfigError

CONFIG_NAME = "config"
_GROUP = re.compile(r"\w[\w-]{0,63}(/\w[\w-]{0,63}){0,7}")
Values = dict[str, Any]  # of a run, before they are resolved
MISSING = "???"  # OmegaConf's mark of a value that must be given


def conf_folder() -> Path:
    """The folder of config.yaml: inside an installed package, else at the root of the repository."""
    package = Path(goldfish.__file__).parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parents[1] / "conf"


def search_path(primary: str | None = None, additional: str | None = None) -> ConfigSearchPath:
    """Where Hydra looks for configurations: in `primary` or our own conf folder, and before it in `additional`."""
    register()
    path = create_config_search_path(str(Path(primary).absolute() if primary else conf_folder()))
    if additional is not None:
        if not Path(additional).is_dir():
            raise ConfigError(f"--config-dir={additional}: no such folder")
        path.prepend("command-line", f"file://{Path(additional).absolute()}", SearchPathQuery(provider="main"))
    return path


def loader(path: ConfigSearchPath | None = None) -> ConfigLoaderImpl:
    """Hydra's loader without the rest of Hydra."""
    setup_globals()
    return ConfigLoaderImpl(path or search_path())


@cache
def register() -> None:
    """Tell Hydra how to behave, what there is to choose from, and the keys of each choice."""
    version.setbase("1.3")
    store = ConfigStore.instance()
    for group in config.CHOICES:
        for name in registry.names(group):
            node = {"name": name} | _defaults(config.schema(group, name))
            store.store(group=group, name=name, node=node, provider="goldfish")
    for name in registry.names("probe"):
        store.store(group="probe", name=name, node={name: _defaults(config.schema("probe", name))}, provider="goldfish")
    settings: dict[str, Any] = {group: _defaults(config.schema(group)) for group in ("trainer", "tracking")}
    settings["probe"] = {}  # what is left where none is chosen
    store.store(name="settings", node=settings | _defaults(config.top_level()), provider="goldfish")
    OmegaConf.register_new_resolver("launchers_told", _launchers_told, replace=True)


def _launchers_told() -> str:
    """The help text on those launchers that are installed."""
    known = {file.removesuffix(".yaml") for file in ConfigStore.instance().list("hydra/launcher")}
    others = sorted(known - {"basic", "packed"})
    if not others:
        return "hydra-joblib-launcher or hydra-submitit-launcher, once installed, trains elsewhere,"
    return f"-m hydra/launcher={' or '.join(others)} trains elsewhere,"


def _defaults(parameters: dict[str, Parameter]) -> dict[str, Any]:
    return {name: MISSING if item.required else item.default for name, item in parameters.items()}


class Composer:
    """Makes resolved configurations out of settings.

    >>> composer = Composer(loader())
    >>> composer.config([composer.setting("cell=lstm"), composer.setting("seed=3")]).cell.name
    'lstm'
    """

    def __init__(self, loader: ConfigLoaderImpl, config_name: str = CONFIG_NAME, hydra: Sequence[str] = ()) -> None:
        """`hydra`: overrides of Hydra's own configuration, which may stand in every composition."""
        self.loader = loader
        self.config_name = config_name
        self.hydra = list(hydra)
        self._masters: dict[tuple[str, ...], DictConfig] = {}
        self._templates: dict[tuple[str, ...], Values] = {}
        self._options: dict[str, list[str]] = {}

    def options(self, group: str) -> list[str]:
        """The choices of a config group, sorted; none where the key is no group."""
        if group not in self._options:
            named = _GROUP.fullmatch(group) is not None  # Hydra would look for a file of any name
            choices = self.loader.repository.get_group_options(group, ObjectType.CONFIG) if named else []
            self._options[group] = sorted(choices)
        return self._options[group]

    def setting(self, line: str) -> Setting:
        """One typed override that is no sweep. Raises ConfigError."""
        override = overrides.parse(line)
        overrides.check(override, self.options)
        return overrides.single(override, self.options)

    def master(self, choices: Sequence[Setting] = ()) -> DictConfig:
        """The configuration that Hydra composes of some choices, its own part included. Raises ConfigError."""
        key = tuple(str(choice) for choice in choices)
        if key not in self._masters:
            self._masters[key] = self._compose(key)
        return self._masters[key]

    def config(self, settings: Sequence[Setting]) -> Config:
        """The resolved configuration of one run. Raises ConfigError for whatever no run can mean."""
        choices = tuple(setting for setting in settings if self._chooses(setting))
        point = copy.deepcopy(self._template(choices))
        for setting in settings:
            if not self._chooses(setting):
                _place(point, setting.key, setting.value, setting)
        return config.resolve(_without_missing(_interpolated(point)))

    def distinct(self, points: Iterable[Sequence[Setting]]) -> list[tuple[Sequence[Setting], Config]]:
        """Points with their configurations, the first of those that come to the same run. Raises ConfigError."""
        runs: dict[str, tuple[Sequence[Setting], Config]] = {}
        for point in points:
            values = self.config(point)
            runs.setdefault(repr(values), (point, values))
        return list(runs.values())

    def _chooses(self, setting: Setting) -> bool:
        return bool(self.options(setting.key)) and not isinstance(setting.value, dict)

    def _template(self, choices: tuple[Setting, ...]) -> Values:
        """The composed configuration of some choices, interpolations unresolved; never to be changed."""
        key = tuple(str(choice) for choice in choices)
        if key not in self._templates:
            spliced = None if key in self._masters else self._spliced(choices)
            self._templates[key] = spliced or _plain(self.master(choices))
        return self._templates[key]

    def _spliced(self, choices: tuple[Setting, ...]) -> Values | None:
        """The template put together from compositions of one choice each: their number adds up instead of multiplying.

        None for a single choice, and where a choice reaches beyond its own group, as somebody's YAML file may.
        """
        frame = tuple(choice for choice in choices if choice.key not in config.CHOICES)
        if len(choices) - len(frame) < 2:
            return None
        base = self._template(frame)
        spliced = dict(base)
        for choice in choices:
            if choice not in frame:
                alone = self._template((*frame, choice))
                if base | {choice.key: alone.get(choice.key)} != alone:
                    return None
                spliced[choice.key] = alone[choice.key]
        return spliced

    def _compose(self, choices: Sequence[str]) -> DictConfig:
        try:
            return self.loader.load_configuration(self.config_name, [*self.hydra, *choices], RunMode.RUN)
        except (HydraException, OmegaConfBaseException) as error:
            missing = isinstance(error, MissingConfigException) and error.missing_cfg_file == self.config_name
            head = f"--config-name={self.config_name}: " if missing else ""
            raise ConfigError(head + one_line(error)) from error
        except (YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"not YAML that a configuration may hold: {error}") from error


def _plain(composed: DictConfig) -> Values:
    container = OmegaConf.to_container(composed)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items() if key != "hydra"}


def one_line(error: BaseException) -> str:
    """The complaint of Hydra or OmegaConf, without the lines that describe the object."""
    told = str(error).strip() or str(error.__cause__ or "").strip() or type(error).__name__
    override = told.partition("Error merging override ")[2]
    return f"{override}: {str(error.__cause__).splitlines()[0]}" if override else told.splitlines()[0]


def _place(point: Values, key: str, value: Any, setting: Setting) -> None:
    """Set the value at a dotted key; a mapping is merged key by key. `resolve` refuses keys that nobody knows."""
    if value == MISSING:
        raise ConfigError(f"{setting}: expected a value")
    *path, last = key.split(".")
    node: Any = point
    for part in path:
        node = node.get(part) if isinstance(node, dict) else None
    if not isinstance(node, dict):
        group, _, inner = key.partition(".")
        raise config.unknown_key(group, point[group].get("name"), inner, setting.text)
    if last == "name" and path and path[0] in config.CHOICES:
        raise ConfigError(f"{setting}: write {path[0]}={value}")
    if isinstance(value, dict) and isinstance(node.get(last), dict):
        for inner, item in value.items():
            _place(point, f"{key}.{inner}", item, setting)
    else:
        node[last] = value


def _interpolated(point: Values) -> Values:
    """Resolve interpolations such as ${cell.hidden_size}; without any, return the point as it is."""
    if "${" not in repr(point):
        return point
    try:
        container = OmegaConf.to_container(OmegaConf.create(point), resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}={_at(point, str(error.full_key))}: {one_line(error)}") from error
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def _at(point: Values, key: str) -> Any:
    node: Any = point
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def _without_missing(point: Values) -> Values:
    """Leave out keys whose value must be given and was not: `resolve` says so in its own words."""
    return {
        key: _without_missing(value) if isinstance(value, dict) else value
        for key, value in point.items()
        if value != MISSING
    }
