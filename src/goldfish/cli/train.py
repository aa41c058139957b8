"""`goldfish train`: Hydra's command line around one run, or around a sweep of runs with -m.

Hydra composes and expands; everything is checked before anything starts, and training never sees Hydra.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

from hydra._internal.hydra import Hydra
from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from goldfish.cli.options import parsed
from goldfish.composing import compose, overrides
from goldfish.composing.compose import Composer
from goldfish.config.config import resolve
from goldfish.errors import ConfigError
from goldfish.sweep.launch import check, launch


def train(arguments: Sequence[str]) -> None:
    """Do what `goldfish train` is told. Raises ConfigError for bad input, FailedRunsError when a run failed."""
    parser = get_args_parser()
    args = parsed(parser, arguments)
    _check_options(args)
    config_name = args.config_name or compose.CONFIG_NAME
    if args.shell_completion or args.info or args.hydra_help:
        composer = Composer(compose.loader(compose.search_path(args.config_path, args.config_dir)), config_name)
        if not args.shell_completion:
            composer.hydra, _ = overrides.split(args.overrides, composer.options)
        composer.master()  # checked here: Hydra answers with a loader of its own
        _ask_hydra(parser, args, config_name)
        return
    with _hydra(args) as hydra:
        composer = Composer(hydra.config_loader, config_name)
        composer.hydra, own = overrides.split(args.overrides, composer.options)
        master = composer.master().hydra  # composed for every command, which checks Hydra's own overrides
        if _is_packed(master):
            check(master.launcher)
        if args.multirun or master.mode is RunMode.MULTIRUN:
            _sweep(hydra, composer, own)
            return
        composer.config([overrides.single(override, composer.options) for override in own])
        if not (args.help or args.cfg):
            _single(hydra, config_name, args.overrides)
            return
    _ask_hydra(parser, args, config_name)


def job(values: DictConfig) -> None:
    """Train the one run that Hydra composed: alone, or as a job of joblib's or submitit's launcher."""
    container = OmegaConf.to_container(values, resolve=True)
    assert isinstance(container, dict)
    hydra = HydraConfig.get()
    named = ("rerun", "checkpoint_minutes", "checkpoint_steps") if _is_packed(hydra) else ()
    options = {name: hydra.launcher[name] for name in named}
    launch([resolve({str(key): value for key, value in container.items()})], workers=1, **options)


def _is_packed(hydra: Any) -> bool:
    return bool(hydra.runtime.choices["hydra/launcher"] == "packed")


def _quiet_job(values: DictConfig) -> Exception | None:
    """`job`, whose errors are returned: Hydra would print a line of its own before raising them again."""
    try:
        job(values)
    except Exception as error:
        return error
    return None


def _single(hydra: Hydra, config_name: str, lines: Sequence[str]) -> None:
    with _told_in_one_line():
        error = hydra.run(config_name, _quiet_job, [*lines, "hydra.mode=RUN"]).return_value
    if error is not None:
        raise error


def _sweep(hydra: Hydra, composer: Composer, own: Sequence[Override]) -> None:
    """Let Hydra run the sweeper. A fixed value goes as a sweep of one: its key may belong to a choice that is swept."""
    lines = [*composer.hydra, "hydra.mode=MULTIRUN"]
    for override in own:
        if override.is_sweep_override() or overrides.is_choice(override, composer.options):
            lines.append(str(override.input_line))
        else:
            setting = overrides.single(override, composer.options)
            lines.append(f"{setting.prefix}{setting.key}=choice({setting.text or repr('')})")
    with _told_in_one_line():
        hydra.multirun(composer.config_name, job, lines)


@contextmanager
def _told_in_one_line() -> Iterator[None]:
    """What is wrong with Hydra's own configuration may show only when Hydra uses it."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        key = getattr(error, "full_key", None)
        raise ConfigError(f"{f'{key}: ' if key else ''}{compose.one_line(error)}") from error


@contextmanager
def _hydra(args: argparse.Namespace) -> Iterator[Hydra]:
    path = compose.search_path(args.config_path, args.config_dir)
    try:
        hydra = Hydra("goldfish", compose.loader(path))
        GlobalHydra.instance().initialize(hydra)
        yield hydra
    finally:
        GlobalHydra.instance().clear()


def _ask_hydra(parser: argparse.ArgumentParser, args: argparse.Namespace, config_name: str) -> None:
    """--help, --cfg, --info and -sc are Hydra's to answer; what it says is printed here, where errors are told."""
    folder = args.config_path or str(compose.conf_folder())
    said = io.StringIO()
    try:
        with redirect_stdout(said):
            _run_hydra(args, parser, job, config_path=folder, config_name=config_name)
    finally:
        print(said.getvalue(), end="")


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
        raise ConfigError("--experimental-rerun: not supported; say the same overrides again")
