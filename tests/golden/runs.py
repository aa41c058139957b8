"""The fixed set of runs whose every number is kept, and what is kept of them.

`python -m tests.golden.runs` trains the set and writes golden.parquet beside this file. A change that is meant to move
no number never calls it; one that is meant to says which numbers moved, and why.
"""

from __future__ import annotations

import platform
import random
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from pyarrow import parquet

import goldfish
from goldfish.sweep.identity import fingerprint
from goldfish.training.outcome import Outcome
from goldfish.training.train import train_pack

KEPT = Path(__file__).with_name("golden.parquet")
TIMES = ("train/seconds", "train/steps_per_second")
CELLS = ("rnn", "lstm", "gru")
INITS = {"rnn": ("pytorch", "orthogonal"), "lstm": ("pytorch", "chrono"), "gru": ("pytorch", "chrono")}
SEEDS = (0, 1)  # one pack each
TASKS: dict[str, dict[str, Any]] = {
    "recall": {"name": "recall", "length": 12},
    "adding": {"name": "adding", "length": 20},
    "digits": {"name": "digits"},
    "sentiment": {"name": "sentiment", "length": 12, "min_count": 1},
    "tagging": {"name": "tagging", "length": 12, "min_count": 1, "dataset": "wnut_17"},
    "translation": {"name": "translation", "dataset": "numerals", "length": 14},
}
FURTHER: dict[str, dict[str, Any]] = {
    "dropout": {"cell": {"name": "lstm", "num_layers": 2}, "model": {"name": "recurrent", "dropout": 0.3}},
    "bidirectional": {"cell": "gru", "model": {"name": "recurrent", "bidirectional": True}, "task": TASKS["digits"]},
    "diverging": {"cell": {"name": "rnn", "nonlinearity": "relu"}, "optimizer": {"name": "sgd", "lr": 1e4}},
    "fitted": {"model": "bag_of_words", "task": TASKS["sentiment"]},
}
WORDS = [first + second for first in ("ka", "mo", "ti", "shu", "re") for second in ("lo", "na", "pe", "ru")]
KINDS = ("O", "B-person", "I-person", "B-place", "I-place")


def write_data(folder: Path) -> None:
    """Two invented datasets of 96, 32 and 32 rows: sentences of two classes, and sentences with tags."""
    draw = random.Random(1997)
    for name in ("sentiment", "tagging"):
        (folder / name).mkdir()
        for split, rows in (("train", 96), ("validation", 32), ("test", 32)):
            sentences = [draw.choices(WORDS, k=draw.randint(3, 11)) for _ in range(rows)]
            if name == "sentiment":
                labels = [int(words.count("kalo") + words.count("mona") > 0) for words in sentences]
                columns: dict[str, Any] = {"text": [" ".join(words) for words in sentences], "label": labels}
                features = Features(text=Value("string"), label=ClassLabel(names=["no", "yes"]))
            else:
                tags = [[WORDS.index(word) % len(KINDS) for word in words] for words in sentences]
                columns = {"tokens": sentences, "ner_tags": tags}
                features = Features(tokens=List(Value("string")), ner_tags=List(ClassLabel(names=list(KINDS))))
            Dataset.from_dict(columns, features).to_parquet(folder / name / f"{split}.parquet")


def packs(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Every pack by name, its runs as choices that `goldfish.resolve` takes; `folder` holds the invented data."""
    trainer = {"max_steps": 60, "validate_every": 20, "evaluation_size": 32, "batch_size": 8, "accelerator": "cpu"}
    chosen: dict[str, list[dict[str, Any]]] = {}
    for kind, arguments in TASKS.items():
        data = {"data": str(folder / kind)} if (folder / kind).is_dir() else {}
        for cell in CELLS:
            runs = [{"cell": cell, "init": init, "task": arguments | data} for init in INITS[cell]]
            chosen |= {f"{kind}/{cell}/{seed}": [run | {"seed": seed} for run in runs] for seed in SEEDS}
    for name, choices in FURTHER.items():
        task: dict[str, Any] = dict(choices.get("task", TASKS["recall"]))
        task |= {"data": str(folder / task["name"])} if (folder / task["name"]).is_dir() else {}
        for seed in SEEDS:
            chosen[f"{name}/{seed}"] = [choices | {"task": task, "seed": 2 * seed + more} for more in (0, 1)]
    small = {"trainer": trainer, "optimizer": {"lr": 0.01}}
    return {name: [_small(run, small) for run in runs] for name, runs in chosen.items()}


def _small(run: dict[str, Any], small: dict[str, Any]) -> dict[str, Any]:
    cell: dict[str, Any] | None = {"name": run["cell"]} if isinstance(run.get("cell"), str) else run.get("cell")
    return small | run | ({"cell": cell | {"hidden_size": 8}} if cell is not None else {})


def table(folder: Path) -> pd.DataFrame:
    """Train every pack: one row a number, with its run, the run's fingerprint and verdict, name, phase and x."""
    frames = []
    for name, runs in packs(folder).items():
        for outcome in train_pack([goldfish.resolve(run) for run in runs]):
            frames.append(_numbers(f"{name}/{outcome.config['init']['name']}/{outcome.config['seed']}", outcome))
    return pd.concat(frames, ignore_index=True)


def _numbers(run: str, outcome: Outcome) -> pd.DataFrame:
    metrics = [(name, "", 0.0, float(value)) for name, value in sorted(outcome.metrics.items()) if name not in TIMES]
    curves = [(point.quantity, point.phase, float(point.x), float(point.value)) for point in outcome.curves]
    numbers = pd.DataFrame(metrics + curves, columns=["name", "phase", "x", "value"])
    told = {"run": run, "fingerprint": fingerprint(outcome.config), "verdict": outcome.verdict}
    return numbers.assign(**told)[["run", "fingerprint", "verdict", "name", "phase", "x", "value"]]


def instruction_set() -> str:
    """What the last bits depend on beside the code: the processor's instructions and the version of torch."""
    return f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__.split('+')[0]}"


def main() -> None:
    """Train the set and keep its numbers."""
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder))
        numbers = pa.Table.from_pandas(table(Path(folder)), preserve_index=False)
    metadata = {b"instruction_set": instruction_set().encode()}
    parquet.write_table(numbers.replace_schema_metadata(metadata), KEPT, compression="zstd")
    print(f"{KEPT}: {numbers.num_rows} numbers, {KEPT.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
