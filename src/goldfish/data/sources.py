"""Sources of real data: the files that a task reads, their content's hash, and evaluation sets as tables.

Finding and hashing data imports neither torch nor scikit-learn nor datasets: the fingerprint of a run needs both, and
the command line answers before it imports anything heavy.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldfish.config import registry
from goldfish.config.config import Config
from goldfish.errors import ConfigError

if TYPE_CHECKING:
    import datasets
    import numpy as np
    import pyarrow as pa

    from goldfish.data.tables import Tables
    from goldfish.tasks.base import Task

FOLDER = "GOLDFISH_DATA"  # names a folder with local copies, one folder for each dataset
HUB_TIMEOUT = 2.0  # seconds to wait for the hub before saying that it cannot be reached
_SHARD = re.compile(r"(\d{5})-of-(\d{5})")
_SPLITS = {"train": "train", "validation": "validation", "valid": "validation", "dev": "validation", "test": "test"}


def content_hash(task: Mapping[str, Any]) -> str | None:
    """Return 64 hex digits of the real data behind a task's configuration, None for synthetic data.

    The task's file says where its data are: `CONTENT = "sklearn-digits"`, or `HUB_ID = "<hub id>"` beside an argument
    `data` for a local folder. The hash of hub data is that of goldfish.data.tables. Raises ConfigError when the data
    cannot be reached, or do not hold what the task's file says that it reads.
    """
    if registry.signature("task", task["name"]).constants.get("CONTENT") == "sklearn-digits":
        return hashlib.sha256(digits_file().read_bytes()).hexdigest()
    if str(task.get("dataset")) == "python_docs":
        return hashlib.sha256(python_docs_file().read_bytes()).hexdigest()
    read = look(task)
    return read.content if read else None


def look(task: Mapping[str, Any]) -> Tables | None:
    """The tables behind a task's configuration as they are now, checked; None for a task without any.

    The task's file says what it reads: `COLUMNS`, column → kind and its arguments, and `ROWS`, split → the fewest rows
    that it may have; both for every dataset where it has several (`HUB_IDS`). `CHOOSE` is argument → dataset → the
    column that the argument puts another one in place of. Raises ConfigError as goldfish.data.tables.look does.
    """
    constants = registry.signature("task", task["name"]).constants
    wanted, rows = constants.get("COLUMNS", {}), constants.get("ROWS", {})
    dataset = str(task.get("dataset"))
    if "HUB_ID" not in constants and dataset not in constants.get("HUB_IDS", {}):
        return None
    from goldfish.data import tables

    if "HUB_ID" in constants:
        return tables.look(parquet_files(constants["HUB_ID"], task.get("data")), wanted, rows)
    files = parquet_files(constants["HUB_IDS"][dataset], task.get("data"), dataset)
    chosen = {own[dataset]: task.get(key) or own[dataset] for key, own in constants.get("CHOOSE", {}).items()}
    kinds = {chosen.get(name, name): kind for name, kind in wanted.get(dataset, {}).items()}
    return tables.look(files, kinds, rows.get(dataset, {}))


def origin(task: Mapping[str, Any]) -> tuple[Any, ...]:
    """The part of a task's configuration that says which data it reads: equal parts read the same unchanged files."""
    chosen = registry.signature("task", task["name"]).constants.get("CHOOSE", {})
    return tuple(task.get(key) for key in ("name", "dataset", "data", *chosen))


def python_docs_file() -> Path:
    """The English text of Python's own documentation that `help()` shows, found without importing it."""
    spec = importlib.util.find_spec("pydoc_data")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder, "topics.py")
        if path.is_file():
            return path
    raise ConfigError("task.dataset=python_docs: this Python has no pydoc_data/topics.py")


def digits_file() -> Path:
    """The compressed table of scikit-learn's digits, found without importing scikit-learn."""
    spec = importlib.util.find_spec("sklearn")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder, "datasets", "data", "digits.csv.gz")
        if path.is_file():
            return path
    raise ConfigError("task=digits: scikit-learn's digits.csv.gz is not installed; expected scikit-learn ≥ 1.6")


def parquet_files(hub_id: str | None, folder: str | None = None, dataset: str = "") -> dict[str, list[Path]]:
    """Split → parquet files, of a local folder, or of the hub's dataset (downloaded once, then taken from its cache).

    A file belongs to the split that its path names: train.parquet, test-00000-of-00001.parquet, … Hidden files and
    folders are no data. Without a folder, one named after the dataset in the folder GOLDFISH_DATA comes before the hub.
    `hub_id` is the hub's, "@<revision>" and ":<subfolder>" where its files are not those of the main branch's root;
    None where the hub has no such dataset. Raises ConfigError, naming hub id and folder, when there are none, when a
    part is missing, or when two names are given to one split.
    """
    if folder is None:
        local = Path(os.environ.get(FOLDER, ""), dataset or (hub_id or "").rpartition("/")[2])
        if not (os.environ.get(FOLDER) and local.is_dir()):
            if hub_id is None:
                raise ConfigError(f"task.data=null: the hub has no {dataset}; expected a folder with its parquet files")
            return _by_split(_hub_folder(hub_id))
    else:
        local = Path(folder)
    if local.is_file():
        raise ConfigError(f"task.data={local}: this is a file; expected the folder that it lies in")
    splits = _by_split(local) if local.is_dir() else {}
    if not splits:
        others = sorted(path.name for path in _visible(local))[:3] if local.is_dir() else []
        there = f" (there: {', '.join(others)})" if others else ""
        wanted = f"those of {hub_id}, or null for the hub's" if hub_id else f"those of {dataset}"
        raise ConfigError(f"task.data={local}: no parquet files there{there}; expected {wanted}")
    return splits


def _by_split(folder: Path) -> dict[str, list[Path]]:
    splits: dict[str, list[Path]] = {}
    called: dict[str, tuple[str, Path]] = {}  # split → its name there, and a file that has it
    for path in sorted(path for path in _visible(folder) if path.suffix.lower() == ".parquet"):
        words = re.split(r"[^a-z]+", path.relative_to(folder).as_posix().lower())
        word = next((word for word in reversed(words) if word in _SPLITS), None)
        if word is not None:
            split = _SPLITS[word]
            other, first = called.setdefault(split, (word, path))
            if other != word:
                raise ConfigError(f"task.data: {first} and {path} both name the split '{split}'; expected one of them")
            splits.setdefault(split, []).append(path)
    for paths in splits.values():
        _refuse_gaps(paths)
    return splits


def _visible(folder: Path) -> Iterator[Path]:
    """Files below a folder, but for hidden ones and those in hidden folders: what editors and systems leave behind."""

    def refuse(error: OSError) -> None:
        raise ConfigError(f"task.data: {error.filename} cannot be read: {error.strerror}") from error

    seen = set()
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [] if real in seen else sorted(name for name in folders if not _hidden(name))
        yield from (Path(place, name) for name in names if not _hidden(name) and real not in seen)
        seen.add(real)


def _hidden(name: str) -> bool:
    return name.startswith((".", "__"))


def _refuse_gaps(paths: Sequence[Path]) -> None:
    """Refuse files that say "part i of n" unless all n are there."""
    parts = [(int(match[1]), int(match[2]), path) for path in paths if (match := _SHARD.search(path.name))]
    for _, count, path in parts:
        missing = sorted(set(range(count)) - {index for index, of, _ in parts if of == count})
        if missing:
            raise ConfigError(f"task.data: {path} is one of {count} parts; part {missing[0]:05} is missing")


def _hub_folder(hub_id: str) -> Path:
    """The cached copy of a hub dataset's parquet files; downloads them when there is none and the hub answers."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError

    hub_id, _, place = hub_id.partition("@")
    revision, _, below = place.partition(":")
    pattern = f"{below}/*.parquet" if below else "*.parquet"
    wanted: dict[str, Any] = {"repo_id": hub_id, "repo_type": "dataset", "allow_patterns": pattern}
    wanted |= {"revision": revision} if revision else {}
    try:
        cached = Path(snapshot_download(**wanted, local_files_only=True))
        if {"train", "test"} <= _by_split(cached).keys():
            return cached
    except LocalEntryNotFoundError:
        pass  # never downloaded
    try:
        HfApi().dataset_info(hub_id, timeout=HUB_TIMEOUT)  # answers soon; a download would retry for minutes
        return Path(snapshot_download(**wanted))
    except (HTTPError, OSError) as error:
        raise ConfigError(
            f"task.data=null: the hub's dataset {hub_id} is neither cached nor reachable ({type(error).__name__}); "
            f"expected a local folder with its parquet files, task.data=<folder>"
        ) from error


def class_numbers(column: pa.ChunkedArray) -> np.ndarray:
    """A checked column of classes as int64."""
    import pyarrow as pa

    numbers: np.ndarray = column.cast(pa.int64()).to_numpy()
    return numbers


def grey_images(source: Tables, split: str, column: str, side: int) -> np.ndarray:
    """A column of grey images of side × side pixels as (N, side, side) uint8.

    Raises ConfigError, naming file and row, for one that is damaged, has colours or has another size.
    """
    import io

    import numpy as np
    from PIL import Image, UnidentifiedImageError

    (stored,) = source.read(split, column)
    pixels = np.empty((len(stored), side, side), dtype=np.uint8)
    for row, encoded in enumerate(stored.to_pylist()):
        try:
            with Image.open(io.BytesIO(encoded["bytes"])) as image:
                kind = f"{image.height}×{image.width} pixels, mode {image.mode}"
                fits = image.mode == "L" and image.size == (side, side)
                if fits:
                    pixels[row] = np.asarray(image)
        except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ConfigError(f"task.data: {source.place(split, row)}, column '{column}': {error}") from error
        if not fits:
            where = source.place(split, row)
            raise ConfigError(f"task.data: {where}, column '{column}': {kind}; expected {side}×{side}, grey (mode L)")
    return pixels


def evaluation_table(task: Task, split: str, length: int, n: int) -> datasets.Dataset:
    """A fixed evaluation set as a `datasets` table: columns inputs, targets, mask; lag and recall where it has them."""
    import datasets

    batch = task.evaluation(split, length, n)
    columns = {name: getattr(batch, name) for name in ("inputs", "targets", "mask", "lag", "recall")}
    return datasets.Dataset.from_dict({name: value.numpy() for name, value in columns.items() if value is not None})


def describe_test_set(config: Config) -> dict[str, str]:
    """A run's test set as MLflow records it: name, digest, source, schema and profile, as plain texts.

    The digest covers the table's content: sha256 of its Arrow columns, cut to the 32 digits that MLflow has room for.
    """
    import json

    task = config.task
    built: Task = registry.load("task", task.name)(**task.arguments)
    table = evaluation_table(built, "test", built.length, config.trainer.evaluation_size)
    digest = hashlib.sha256()
    for column in table.data.columns:
        for chunk in column.chunks:
            for buffer in chunk.buffers():
                digest.update(buffer or b"")
    constants = registry.signature("task", task.name).constants
    return {
        "name": f"{task.name} length {built.length} test",
        "digest": digest.hexdigest()[:32],
        "source": str(task.get("data") or constants.get("HUB_ID") or constants.get("CONTENT") or "synthetic"),
        "schema": json.dumps({name: str(feature) for name, feature in table.features.items()}),
        "profile": json.dumps({"num_rows": table.num_rows}),
    }
