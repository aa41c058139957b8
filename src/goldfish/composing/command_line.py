"""Hydra's command line for `goldfish train`: its options, and one run or, with -m, a sweep of runs.

Everything is checked before anything starts, each override is read once, and training never sees Hydra.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from goldfish.composing import compose, overrides
from goldfish.composing.compose import Composer
from goldfish.config.config import resolve
from goldfish.errors import ConfigError, nearest
from goldfish.sweep import launch


@dataclass
class Context(HydraContext):
    """The context that Hydra hands to sweeper and launcher, with the composer that has read the command line."""

    composer: Composer


def train(arguments: Sequence[str]) -> None:
    """Run `goldfish train`. Raises ConfigError for bad input, FailedRunsError when a run failed."""
    parser = get_args_parser()
    args = _parsed(parser, arguments)
    _check_options(args)
    composer = Composer(
        compose.loader(compose.search_path(args.config_path, args.config_dir)), args.config_name or compose.CONFIG_NAME
    )
    own: list[Override] = []
    if not args.shell_completion:  # whose words are no overrides
        composer.hydra, own = overrides.split(args.overrides, composer.options)
    fixed = [item for item in own if overrides.is_choice(item, composer.options) and not item.is_sweep_override()]
    master = composer.master([overrides.single(override, composer.options) for override in fixed])
    hydra = master.hydra  # composed for every command, which checks Hydra's own overrides
    packed = hydra.runtime.choices["hydra/launcher"] == "packed"
    if packed:
        launch.check(hydra.launcher)
    if args.shell_completion or args.info or args.hydra_help:
        _ask_hydra(parser, args)
    elif args.multirun or hydra.mode is RunMode.MULTIRUN:
        _sweep(composer, master, own)
    else:
        config = composer.config([overrides.single(override, composer.options) for override in own])
        if args.help or args.cfg:
            _ask_hydra(parser, args)
        else:
            named = ("rerun", "checkpoint_minutes", "checkpoint_steps") if packed else ()
            launch.launch([config], workers=1, **{name: hydra.launcher[name] for name in named})


def job(values: DictConfig) -> None:
    """Train a run that another launcher (basic, joblib, submitit) had Hydra compose, maybe in another process."""
    container: Any = OmegaConf.to_container(values, resolve=True)
    launch.launch([resolve(container)], workers=1)


def _sweep(composer: Composer, master: DictConfig, own: Sequence[Override]) -> None:
    """Let the sweeper launch every combination. What is wrong with Hydra's own settings may show only here."""
    JobRuntime().set("name", "goldfish")
    context = Context(composer.loader, Callbacks(), composer)
    try:
        sweeper = Plugins.instance().instantiate_sweeper(hydra_context=context, task_function=job, config=master)
        sweeper.sweep([str(override.input_line) for override in own])
    except (HydraException, OmegaConfBaseException) as error:
        key = getattr(error, "full_key", None)
        raise ConfigError(f"{f'{key}: ' if key else ''}{compose.one_line(error)}") from error


def _ask_hydra(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """--help, --cfg, --info and -sc are Hydra's to answer; what it says is printed here, where errors are told."""
    folder = args.config_path or str(compose.conf_folder())
    said = io.StringIO()
    try:
        with redirect_stdout(said):
            _run_hydra(args, parser, job, config_path=folder, config_name=args.config_name or compose.CONFIG_NAME)
    finally:
        print(said.getvalue(), end="")


def _parsed(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parse Hydra's options and the overrides, in any order. Raises ConfigError for an unknown option."""
    parser.exit_on_error = False
    try:
        args, left = parser.parse_known_intermixed_args(list(arguments))
    except argparse.ArgumentError as error:
        raise ConfigError(f"{error.argument_name}: {error.message}") from error
    if left:
        flags = [flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")]
        raise ConfigError(f"{left[0]}: unknown option; {nearest(left[0].split('=')[0], flags)}")
    return args


def _check_options(args: argparse.Namespace) -> None:
    modes = {
        "--run": args.run,
        "--multirun": args.multirun,
        "--cfg": args.cfg,
        "--info": args.info,
        "--shell-completion": args.shell_completion,
    }
    chosen = [flag for flag, given in modes.items() if given]
    if len(chosen) > 1:
        raise ConfigError(f"{chosen[1]}: cannot go with {chosen[0]}")
    if args.resolve and not (args.cfg or args.help):
        raise ConfigError("--resolve: goes with --cfg or --help only")
    if args.experimental_rerun is not None:
        raise ConfigError("--experimental-rerun: not supported; give the same overrides again")
