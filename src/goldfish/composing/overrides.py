"""Overrides, `key=value` in Hydra's grammar, each of which is parsed once into settings with typed values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, QuotedString, ValueType
from hydra.errors import HydraException

from goldfish.config import config, registry
from goldfish.errors import ConfigError, nearest

LISTS = ("probe", "trainer.probe_at", "trainer.callbacks", "trainer.loggers")  # keys whose value is a list
Options = Callable[[str], Sequence[str]]  # the choices of a config group; none for a key that is no group
HYDRA = ("hydra.launcher", "hydra.sweeper", "hydra.sweep", "hydra.mode", "hydra.verbose")  # what may be set of Hydra


@dataclass(frozen=True)
class Setting:
    """One key of one run: its value, and the text that Hydra reads as this value."""

    key: str
    value: Any
    text: str
    prefix: str = ""  # "+" adds a group that the defaults list lacks

    def __str__(self) -> str:
        return f"{self.prefix}{self.key}={self.text}"


@cache
def parse(line: str) -> Override:
    """Parse one override. Raises ConfigError with the line and the reason."""
    try:
        return OverridesParser.create().parse_overrides([line])[0]
    except HydraException as error:
        reason = "expected key=value" if "=" not in line and not line.startswith("~") else _reason(error)
        raise ConfigError(f"{line}: {reason}") from error
    except ValueError as error:  # Python reads no integer of so many digits
        raise ConfigError(f"{line}: a number of so many digits cannot be read") from error


def _reason(error: HydraException) -> str:
    """The complaint of Hydra's grammar, without the frame that Hydra puts around it."""
    frame = ("Error parsing override", "Lexer", "^", "See http")
    lines = [part.strip() for part in str(error).splitlines()]
    told = [part for part in lines if part and not part.startswith(frame)]
    return ": ".join(["not an override that Hydra can read", *told[:1]])


def split(lines: Iterable[str], options: Options) -> tuple[list[str], list[Override]]:
    """Separate Hydra's own overrides from those of the run, both checked for what can be known without composing.

    Raises ConfigError for bad syntax, additions and deletions, a key of no group, a choice that a group does not have.
    """
    hydra: list[str] = []
    own: list[Override] = []
    chosen: set[str] = set()
    for line in lines:
        override = parse(line)
        if override.is_hydra_override():
            _check_hydra(override, options)
            hydra.append(line)
            continue
        check(override, options)
        own.append(override)
        if is_choice(override, options):
            if override.key_or_group in chosen:
                raise ConfigError(f"{line}: '{override.key_or_group}' is chosen twice")
            chosen.add(override.key_or_group)
    return hydra, own


def _check_hydra(override: Override, options: Options) -> None:
    """Refuse what has no meaning here, and what could name code: Hydra calls whatever a `_target_` names."""
    line, key = str(override.input_line), override.key_or_group
    _check_form(override)
    if override.is_sweep_override():
        raise ConfigError(f"{line}: a sweep can vary keys of the run, but not Hydra's own")
    if is_choice(override, options):
        _check_choice(axis(override, options), options)
    elif not any(f"{key}.".startswith(f"{known}.") for known in HYDRA):
        raise ConfigError(f"{line}: of Hydra's own settings only {', '.join(HYDRA)} mean something here")
    elif "_target_" in line or "${" in line:
        raise ConfigError(f"{line}: a value cannot name code to be called, nor refer to another; choose {HYDRA[0]}=…")


def check(override: Override, options: Options) -> None:
    """Refuse what no run can mean, whatever else is chosen."""
    _check_form(override)
    _check_key(override.key_or_group, str(override.input_line), options, added=override.is_add())
    if is_choice(override, options):
        _check_choice(axis(override, options), options)


def _check_form(override: Override) -> None:
    line, key = str(override.input_line), override.key_or_group
    if not key:
        raise ConfigError(f"{line}: expected key=value")
    if override.is_delete():
        raise ConfigError(f"{line}: a key cannot be deleted; give it a value, {key}=…")
    if override.package is not None:
        raise ConfigError(f"{line}: a choice cannot be moved to another package; write {key}=…")


def _check_key(key: str, line: str, options: Options, *, added: bool = False) -> None:
    known = key.partition(".")[0] in config.GROUPS or key in config.top_level()
    if not known and not options(key):
        raise _unknown(key, line)
    if known and added:
        raise ConfigError(f"{line}: a key is set without a +; write {line.lstrip('+')}")


def _unknown(key: str, line: str) -> ConfigError:
    """The error for a key outside every group: names the group that has it, or the nearest key."""
    inner = key.rsplit(".", 1)[-1]
    for group in config.GROUPS:
        choices = registry.names(group) if group in registry.GROUPS else [None]
        if any(inner in config.schema(group, name) for name in choices):
            return ConfigError(f"{line}: unknown key; did you mean '{group}.{inner}'?")
    return ConfigError(f"{line}: unknown key; {nearest(key.split('.')[0], [*config.GROUPS, *config.top_level()])}")


def is_choice(override: Override, options: Options) -> bool:
    """True when the override chooses from a group rather than setting a value."""
    return bool(options(override.key_or_group)) and not isinstance(override.value(), dict)


def _check_choice(settings: Iterable[Setting], options: Options) -> None:
    """Refuse choices that their group does not have."""
    for setting in settings:
        several = setting.key == "probe" and isinstance(setting.value, list)
        for name in setting.value if several else [setting.value]:
            if name not in options(setting.key):
                raise ConfigError(f"{setting}: {nearest(name, options(setting.key))}")


def axis(override: Override, options: Options) -> list[Setting]:
    """Every value that an override gives its key: one, or those of a sweep in their order."""
    try:
        settings = list(_enumerate(override, options))
    except (HydraException, ValueError) as error:
        raise ConfigError(f"{override.input_line}: {error}") from error
    if not settings:
        raise ConfigError(f"{override.input_line}: no value is left to sweep over")
    return settings


def _enumerate(override: Override, options: Options) -> Iterator[Setting]:
    key, prefix = override.key_or_group, "+" if override.is_add() else ""
    if not override.is_sweep_override():
        yield Setting(key, override.value(), override.get_value_element_as_str(), prefix)
    elif override.is_interval_sweep():
        raise ValueError("an interval holds no list of values; use range(…) or choice(…)")
    elif override.value_type is ValueType.GLOB_CHOICE_SWEEP:
        assert isinstance(override._value, Glob)
        for name in override._value.filter(list(options(key))):
            yield Setting(key, name, name, prefix)
    else:
        for element in override.sweep_iterator():
            value = element.text if isinstance(element, QuotedString) else Override._convert_value(element)
            yield Setting(key, value, Override._get_value_element_as_str(element), prefix)


def single(override: Override, options: Options) -> Setting:
    """The one value that an override gives its key. Raises ConfigError for a sweep."""
    if override.is_sweep_override():
        raise ConfigError(f"{override.input_line}: several values need -m, and a text with commas needs quotes")
    return axis(override, options)[0]


def written(key: str, values: Any, options: Options) -> list[Setting]:
    """The values of a key as a YAML file has them: a list, a number, or text in Hydra's sweep syntax.

    A list is one value of a key in LISTS, and several values of any other key. Raises ConfigError as
    the command line would.
    """
    nested = isinstance(values, (list, tuple)) and any(isinstance(value, (list, tuple)) for value in values)
    if isinstance(values, (list, tuple)) and (nested or key not in LISTS):
        if nested and key not in LISTS:
            raise ConfigError(f"{key}: expected a list of numbers and texts, not of lists")
        return [setting for value in values for setting in written(key, value, options)]
    if isinstance(values, str):
        override = parse(f"{key}={values}")
        check(override, options)
        return axis(override, options)
    setting = Setting(key, values, _text(key, values))
    _check_key(key, str(setting), options)
    if options(key) and not isinstance(values, dict):
        _check_choice([setting], options)
    return [setting]


def _text(key: str, value: Any) -> str:
    """How the value would be typed."""
    if key in LISTS and isinstance(value, (list, tuple)):
        return f"[{','.join(_text(key, item) for item in value)}]"
    if key in LISTS and isinstance(value, dict):
        return f"{{{','.join(f'{name}:{_text(key, item)}' for name, item in value.items())}}}"
    if key in LISTS and isinstance(value, str):
        return value
    if value is not None and not isinstance(value, (bool, int, float)):
        raise ConfigError(f"{key}={value}: expected a number, a text or a list of them")
    return "null" if value is None else repr(value).lower()
