"""The points of a sweep: axes are crossed, grids are united, and an axis on the command line narrows the grids."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from goldfish.composing import overrides
from goldfish.composing.overrides import Options, Setting
from goldfish.errors import ConfigError

Axes = dict[str, list[Setting]]
Point = tuple[Setting, ...]
LIMIT = 1_000_000  # more points than anybody trains: a range mistyped


def axes(written: Mapping[str, Any], options: Options) -> Axes:
    """The axes that a YAML mapping describes: key → value, list, or text in Hydra's sweep syntax; it may be nested.

    Raises ConfigError for what the command line would refuse.
    """
    by_key: Axes = {}
    for key, values in written.items():
        if isinstance(values, Mapping):
            by_key |= axes({f"{key}.{inner}": value for inner, value in values.items()}, options)
        else:
            by_key[key] = overrides.written(key, values, options)
    return by_key


def points(common: Axes, grids: Mapping[str, Axes], given: Axes) -> list[Point]:
    """The union over the grids of all combinations of their axes with the common and the given ones.

    A grid's axis replaces the common axis of its key. A given axis replaces a common one, and filters a grid's: the
    grid keeps those of its values that are given, and a grid that keeps none is left out. Without grids there is one,
    empty. Raises ConfigError when no grid is left.
    """
    kept = _narrowed(grids, given) if grids else [{}]
    crossed = [common | given | grid for grid in kept]
    total = sum(math.prod(len(values) for values in axes.values()) for axes in crossed)
    if total > LIMIT:
        raise ConfigError(f"the sweep has {total} runs, more than {LIMIT}")
    return [point for axes in crossed for point in itertools.product(*axes.values())]


def _narrowed(grids: Mapping[str, Axes], given: Axes) -> list[Axes]:
    left = list(grids.values())
    for key, settings in given.items():
        before = left
        left = [grid for grid in (_filter(grid, key, settings) for grid in before) if grid is not None]
        if not left:
            raise _none_left(before, key, settings)
    return left


def _filter(grid: Axes, key: str, given: Sequence[Setting]) -> Axes | None:
    """The grid with those of the key's values that are given too, None if there are none; itself without the key."""
    if key not in grid:
        return grid
    kept = [setting for setting in grid[key] if any(_same(setting, other) for other in given)]
    return grid | {key: kept} if kept else None


def _same(one: Setting, other: Setting) -> bool:
    return one.value == other.value and isinstance(one.value, bool) == isinstance(other.value, bool)


def _none_left(grids: Sequence[Axes], key: str, given: Sequence[Setting]) -> ConfigError:
    has = dict.fromkeys(setting.text for grid in grids for setting in grid[key])
    wanted = ",".join(setting.text for setting in given)
    return ConfigError(f"{key}={wanted}: the sweep's grids hold none of it, only {key}={','.join(has)}")
