"""Real data: where it lies, what it contains, and evaluation sets as tables.

Finding and hashing data imports neither torch nor scikit-learn nor datasets: the fingerprint of a run needs both, and
the command line answers before it imports anything heavy.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldfish import registry
from goldfish.errors import ConfigError

if TYPE_CHECKING:
    import datasets
    import numpy as np
    from torch import Tensor

    from goldfish.tasks.base import Task

FOLDER = "GOLDFISH_DATA"  # names a folder with local copies, one folder for each dataset
HUB_TIMEOUT = 2.0  # seconds to wait for the hub before saying that it cannot be reached
_SPLITS = {"train": "train", "validation": "validation", "valid": "validation", "dev": "validation", "test": "test"}


def content_hash(task: Mapping[str, Any]) -> str | None:
    """Return 64 hex digits of the real data behind a task's configuration, None for synthetic data.

    The task's file says where its data are: `CONTENT = "sklearn-digits"`, or `HUB_ID = "<hub id>"` beside an argument
    `data` for a local folder. The hash of hub data covers every column and split as stored (images as their encoded
    bytes), not where the files lie or how they are cut. Raises ConfigError when the data cannot be reached.
    """
    constants = registry.signature("task", task["name"]).constants
    if constants.get("CONTENT") == "sklearn-digits":
        return hashlib.sha256(digits_file().read_bytes()).hexdigest()
    if "HUB_ID" in constants:
        return _hash_tables(parquet_files(constants["HUB_ID"], task.get("data")))
    dataset = str(task.get("dataset"))
    if dataset == "python_docs":
        return hashlib.sha256(python_docs_file().read_bytes()).hexdigest()
    if dataset in constants.get("HUB_IDS", {}):
        return _hash_tables(parquet_files(constants["HUB_IDS"][dataset], task.get("data"), dataset))
    return None


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

    A file belongs to the split that its path names: train.parquet, test-00000-of-00001.parquet, … Without a folder,
    one named after the dataset in the folder GOLDFISH_DATA comes before the hub. `hub_id` is the hub's, "@<revision>"
    and ":<subfolder>" where its files are not those of the main branch's root; None where the hub has no such dataset.
    Raises ConfigError, naming hub id and folder, when there are none.
    """
    if folder is None:
        local = Path(os.environ.get(FOLDER, ""), dataset or (hub_id or "").rpartition("/")[2])
        if os.environ.get(FOLDER) and local.is_dir():
            return _by_split(local)
        if hub_id is None:
            raise ConfigError(f"task.data=null: the hub has no {dataset}; expected a folder with its parquet files")
        return _by_split(_hub_folder(hub_id))
    found = _by_split(Path(folder)) if Path(folder).is_dir() else {}
    if not found:
        raise ConfigError(
            f"task.data={folder}: no parquet files there; expected those of {hub_id}, or null for the hub's"
        )
    return found


def _by_split(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.parquet")):
        words = re.split(r"[^a-z]+", path.relative_to(folder).as_posix().lower())
        split = next((_SPLITS[word] for word in reversed(words) if word in _SPLITS), None)
        if split is not None:
            found.setdefault(split, []).append(path)
    return found


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


def _hash_tables(files: Mapping[str, list[Path]]) -> str:
    from pyarrow import ArrowInvalid, parquet

    digest = hashlib.sha256()
    for split in sorted(files):
        columns: dict[str, Any] = {}
        for path in files[split]:
            try:
                table = parquet.read_table(path)
            except (ArrowInvalid, OSError) as error:
                raise ConfigError(f"task.data: {path} cannot be read as parquet: {error}") from error
            for name in table.column_names:
                columns.setdefault(name, hashlib.sha256()).update(_encoded(table.column(name).to_pylist()))
        for name in sorted(columns):
            digest.update(f"{split}/{name}/{columns[name].hexdigest()}\n".encode())
    return digest.hexdigest()


def _encoded(values: list[Any]) -> bytes:
    """Values as bytes, each with its length before it, so that no two columns look alike."""
    parts = []
    for value in values:
        if isinstance(value, dict) and "bytes" in value:
            value = value["bytes"]  # an image: beside it stands only the name of the file it once was
        content = value if isinstance(value, bytes) else repr(value).encode()
        parts += [f"{len(content)}:".encode(), content]
    return b"".join(parts)


def load(
    hub_id: str | None, folder: str | None, split: str, columns: tuple[str, ...], dataset: str = ""
) -> datasets.Dataset:
    """One split of a real dataset through `datasets`, from the hub or from a local folder.

    Raises ConfigError when neither is reachable, or when split or columns are missing.
    """
    import datasets

    files = parquet_files(hub_id, folder, dataset)
    if split not in files:
        raise ConfigError(
            f"task.data={folder or 'null'}: no parquet file of the split '{split}'; expected those of {hub_id}"
        )
    paths = [str(path) for path in files[split]]
    with _no_bars():
        table = datasets.load_dataset("parquet", data_files={split: paths}, split=split)
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise ConfigError(f"task.data={folder or 'null'}: no column '{missing[0]}'; expected the columns of {hub_id}")
    return table.select_columns(list(columns))


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep the progress bars of `datasets` off the screen, where the sweep shows its own."""
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def grey_images(table: datasets.Dataset, column: str) -> np.ndarray:
    """A column of equally large grey images as (N, height, width) uint8."""
    import io

    import datasets
    import numpy as np
    from PIL import Image

    encoded = table.cast_column(column, datasets.Image(decode=False)).with_format("arrow")[column]
    return np.stack([np.asarray(Image.open(io.BytesIO(image["bytes"].as_py()))) for image in encoded])


def label_chance(labels: Tensor) -> float:
    """Share of the commonest class: the accuracy of a predictor that knows how often each class comes, but no input."""
    return int(labels.bincount().max()) / len(labels)


def label_entropy(labels: Tensor) -> float:
    """Cross-entropy in nats of the same predictor."""
    shares = labels.bincount().double() / len(labels)
    return -sum(share * math.log(share) for share in shares.tolist() if share > 0)


def evaluation_table(task: Task, split: str, length: int, n: int) -> datasets.Dataset:
    """A fixed evaluation set as a `datasets` table: columns inputs, targets, mask; lag and recall where it has them."""
    import datasets

    batch = task.evaluation(split, length, n)
    columns = {name: getattr(batch, name) for name in ("inputs", "targets", "mask", "lag", "recall")}
    return datasets.Dataset.from_dict({name: value.numpy() for name, value in columns.items() if value is not None})


def describe_test_set(config: Mapping[str, Any]) -> dict[str, str]:
    """A run's test set as MLflow records it: name, digest, source, schema and profile, as plain texts.

    The digest covers the table's content: sha256 of its Arrow columns, cut to the 32 digits that MLflow has room for.
    """
    import json

    task, size = config["task"], config["trainer"]["evaluation_size"]
    built: Task = registry.load("task", task["name"])(**{key: task[key] for key in task if key != "name"})
    table = evaluation_table(built, "test", built.length, size)
    digest = hashlib.sha256()
    for column in table.data.columns:
        for chunk in column.chunks:
            for buffer in chunk.buffers():
                digest.update(buffer or b"")
    constants = registry.signature("task", task["name"]).constants
    return {
        "name": f"{task['name']} length {built.length} test",
        "digest": digest.hexdigest()[:32],
        "source": str(task.get("data") or constants.get("HUB_ID") or constants.get("CONTENT") or "synthetic"),
        "schema": json.dumps({name: str(feature) for name, feature in table.features.items()}),
        "profile": json.dumps({"num_rows": table.num_rows}),
    }
