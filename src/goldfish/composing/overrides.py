"""Overrides as they are typed, `key=value` in Hydra's grammar: enumerated if they are sweeps, refused in one line."""

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
        raise ConfigError(f"{line}: no number that Hydra can read, of so many digits") from error


def _reason(error: HydraException) -> str:
    """What the grammar found wrong, without Hydra's frame around it."""
    lines = [part.strip() for part in str(error).splitlines()]
    told = [
        part for part in lines if part and not part.startswith(("Error parsing override", "Lexer", "^", "See http"))
    ]
    return f"not an override that Hydra can read: {told[0]}" if told else "not an override that Hydra can read"


def split(lines: Iterable[str], options: Options) -> tuple[list[str], list[Override]]:
    """Separate Hydra's own overrides from those of the run, both checked for what can be known without composing.

    Raises ConfigError for bad syntax, additions and deletions, a key of no group, a choice that a group does not have.
    """
    own, hydra = [], []
    for line in lines:
        override = parse(line)
        if not override.is_hydra_override():
            check(override, options)
            own.append(override)
        elif override.is_sweep_override():
            raise ConfigError(f"{line}: a sweep goes over keys of the run, not of Hydra")
        else:
            _check_choice(override, options)
            hydra.append(line)
    _refuse_twice([override for override in own if is_choice(override, options)])
    return hydra, own


def check(override: Override, options: Options) -> None:
    """Refuse what no run can mean, whatever else is chosen."""
    line, key = str(override.input_line), override.key_or_group
    if not key:
        raise ConfigError(f"{line}: expected key=value")
    if override.is_delete():
        raise ConfigError(f"{line}: no key can be taken away; give it a value, {key}=…")
    if override.package is not None:
        raise ConfigError(f"{line}: a choice goes to its own place; write {key}=…")
    head, _, inner = key.partition(".")
    known = head in config.GROUPS or key in config.top_level()
    if not known and not options(key):
        raise unknown(key, line)
    if known and override.is_add():
        _refuse_unknown(head, inner, override)
        raise ConfigError(f"{line}: a key is set without a +; write {line.lstrip('+')}")
    if key in registry.GROUPS or options(key):
        _check_choice(override, options)


def _refuse_unknown(group: str, inner: str, override: Override) -> None:
    """Refuse keys that nothing in the group has: without its + the override would only be refused later."""
    value = override.value()
    given = {inner: value} if inner else value if isinstance(value, dict) and group in config.GROUPS else {}
    for name, item in given.items():
        if name != "name" and not any(str(name).split(".")[0] in config.schema(group, at) for at in _choices(group)):
            raise config.unknown_key(group, None, str(name), item)


def unknown(key: str, line: str) -> ConfigError:
    """The error for a key outside every group: names the group that has it, or the nearest key."""
    inner = key.rsplit(".", 1)[-1]
    homes = [group for group in config.GROUPS if any(inner in config.schema(group, name) for name in _choices(group))]
    if homes:
        return ConfigError(f"{line}: unknown key; did you mean '{homes[0]}.{inner}'?")
    listing = nearest(key.split(".")[0], [*config.GROUPS, *config.top_level()])
    return ConfigError(f"{line}: unknown key; {listing}")


def _choices(group: str) -> Sequence[str | None]:
    return registry.names(group) if group in registry.GROUPS else [None]


def is_choice(override: Override, options: Options) -> bool:
    """True when the override chooses from a group rather than setting a value."""
    return bool(options(override.key_or_group)) and not isinstance(override.value(), dict)


def _check_choice(override: Override, options: Options) -> None:
    """Refuse a choice that its group does not have; a key that is no group passes."""
    known = options(override.key_or_group)
    if not known or not is_choice(override, options) or override.is_delete():
        return
    several = override.key_or_group == "probe"
    for setting in axis(override, options):
        for name in setting.value if several and isinstance(setting.value, list) else [setting.value]:
            if name not in known:
                raise ConfigError(f"{setting}: {nearest(name, known)}")


def _refuse_twice(choices: Sequence[Override]) -> None:
    seen = set()
    for override in choices:
        if override.key_or_group in seen:
            raise ConfigError(f"{override.input_line}: '{override.key_or_group}' is chosen twice")
        seen.add(override.key_or_group)


def axis(override: Override, options: Options) -> list[Setting]:
    """Every value that an override gives its key: one, or those of a sweep in their order."""
    try:
        found = list(_enumerate(override, options))
    except (HydraException, ValueError) as error:
        raise ConfigError(f"{override.input_line}: {error}") from error
    if not found:
        raise ConfigError(f"{override.input_line}: no value is left to sweep over")
    return found


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
        raise ConfigError(f"{override.input_line}: several values are a sweep, add -m; a text with commas wants quotes")
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
    override = parse(f"{key}={values if isinstance(values, str) else _text(key, values)}")
    check(override, options)
    return axis(override, options)


def _text(key: str, value: Any) -> str:
    if key in LISTS and isinstance(value, (list, tuple)):
        return f"[{','.join(_text(key, item) for item in value)}]"
    if key in LISTS and isinstance(value, dict):
        return f"{{{','.join(f'{name}:{_text(key, item)}' for name, item in value.items())}}}"
    if key in LISTS and isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    raise ConfigError(f"{key}={value}: expected a number, a text or a list of them")
