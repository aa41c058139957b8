"""Tables of real data, read by literal path and identified by their content; columns are checked when first read.

Nothing here asks when a file was written or what its folder is called: each look reads the bytes. Imports neither torch
nor datasets: the fingerprint of a run needs the hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldfish.data import columns
from goldfish.errors import ConfigError, nearest

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

Kinds = Mapping[str, Sequence[Any]]  # column → its kind and that kind's arguments (goldfish.data.columns)
_PART = 10_000  # rows that are in memory at once while a file is looked at
_known: dict[str, str] = {}  # what files' bytes and the wanted columns say → content, as far as this process has looked


@dataclass(frozen=True)
class File:
    """A parquet file, and the sha256 of its bytes when it was looked at."""

    path: Path
    sha256: str

    @contextmanager
    def opened(self) -> Iterator[ParquetFile]:
        """The file, by its literal path. Raises ConfigError when it has changed, or is no parquet."""
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        try:
            with self.path.open("rb") as source:
                if hashlib.file_digest(source, "sha256").hexdigest() != self.sha256:
                    raise ConfigError(f"task.data: {self.path} has changed since it was looked at; start again")
                source.seek(0)
                yield ParquetFile(source)
        except (ArrowException, OSError) as error:
            raise ConfigError(f"task.data: {self.path} cannot be read as parquet: {error}") from error


@dataclass(frozen=True)
class Tables:
    """A dataset as its files were when they were looked at. Two of equal content are equal, wherever they lie.

    content: 64 hex digits of every column of every split: its name, its type, the names of its classes, and its values
        as stored (images as their encoded bytes), whatever the files' number, compression or order.
    files: split → its files, in the order of their rows.
    """

    content: str
    files: Mapping[str, Sequence[File]] = field(compare=False)

    def read(self, split: str, *wanted: str) -> list[pa.ChunkedArray]:
        """The wanted columns of a split, all rows of it."""
        import pyarrow as pa

        parts: list[pa.Table] = []
        for file in self.files[split]:
            with file.opened() as parquet:
                for batch in parquet.iter_batches(columns=_stored(parquet.schema_arrow, wanted)):
                    own = [columns.values(batch, name) for name in wanted]
                    parts.append(pa.table(own, names=[str(index) for index in range(len(own))]))
        try:
            return list(pa.concat_tables(parts, promote_options="permissive").columns)
        except pa.ArrowException as error:
            raise ConfigError(f"task.data: the files of the split '{split}' hold different types: {error}") from error

    def classes(self, split: str, column: str) -> list[str] | None:
        """The names of the classes that a column's numbers stand for, as its first file says them."""
        with self.files[split][0].opened() as parquet:
            return class_names(parquet.schema_arrow).get(column)

    def place(self, split: str, row: int) -> str:
        """A row of a split as a person finds it: the file, and the row in it."""
        for file in self.files[split]:
            with file.opened() as parquet:
                if row < (count := parquet.metadata.num_rows):
                    return f"{file.path}, row {row}"
                row -= count
        raise IndexError(row)


def look(paths: Mapping[str, Sequence[Path]], kinds: Kinds, least: Mapping[str, int]) -> Tables:
    """Look at a dataset's files, and check them where they are new to this process.

    Args:
        paths: split → its files.
        kinds: what the wanted columns must hold.
        least: split that is needed → the rows that it must have at least.

    Raises:
        ConfigError: one line that names the file, and row and column where the fault lies there.
    """
    missing = next((split for split in least if split not in paths), None)
    if missing is not None:
        folder = next(iter(paths.values()))[0].parent
        raise ConfigError(
            f"task.data: {folder} has no parquet file of the split '{missing}'; it has {', '.join(paths)}"
        )
    files = {split: [File(path, _sha256(path)) for path in own] for split, own in paths.items()}
    for own in files.values():
        _refuse_copies(own)
    bytes_of = {split: [file.sha256 for file in own] for split, own in files.items()}
    key = json.dumps([bytes_of, kinds, least], sort_keys=True)
    if key not in _known:
        _known[key] = _content(files, kinds, least)
    return Tables(_known[key], files)


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Column → names of its classes, of those that have any, as the library datasets writes them into a file."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        classes = {name: _classes(feature) for name, feature in features.items()}
    except (ValueError, AttributeError):
        return {}  # other software's
    return {name: told for name, told in classes.items() if told is not None}


def _classes(feature: Any) -> list[str] | None:
    if isinstance(feature, list):  # how earlier releases wrote a list
        feature = {"feature": feature[0] if feature else {}}
    if feature.get("_type") == "ClassLabel" and feature.get("names") is not None:
        return [str(name) for name in feature["names"]]
    return _classes(feature["feature"]) if "feature" in feature else None


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as source:
            return hashlib.file_digest(source, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"task.data: {path} cannot be read: {error.strerror or error}") from error


def _refuse_copies(files: Sequence[File]) -> None:
    """Refuse a file that is a copy of another: its rows would count twice."""
    first: dict[str, File] = {}
    for file in files:
        other = first.setdefault(file.sha256, file)
        if other is not file:
            raise ConfigError(f"task.data: {file.path} is a copy of {other.path}; expected each row once")


def _content(files: Mapping[str, Sequence[File]], kinds: Kinds, least: Mapping[str, int]) -> str:
    """The content hash; checks what is wanted on the way."""
    digest = hashlib.sha256()
    names: dict[str, tuple[Path, list[str]]] = {}  # column → the file that says its classes, and these
    for split in sorted(files):
        hashes: dict[str, Any] = {}
        described: dict[str, set[str]] = {}
        rows = 0
        wanted = kinds if split in least else {}
        for file in files[split]:
            with file.opened() as parquet:
                schema = parquet.schema_arrow
                _check_schema(file.path, schema, wanted, names)
                told = class_names(schema)
                for column in schema:
                    text = json.dumps([columns.type_name(column.type), told.get(column.name)])
                    described.setdefault(column.name, set()).add(text)
                start = 0
                for batch in parquet.iter_batches(batch_size=_PART):
                    rows_of = _rows(file.path, batch, start)
                    for name, values in rows_of.items():
                        hashes.setdefault(name, hashlib.sha256()).update(_encoded(values))
                    if fault := _fault(schema, rows_of, wanted, told):
                        name, (row, reason) = fault
                        place = "" if row is None else f", row {start + row}"
                        raise ConfigError(f"task.data: {file.path}{place}, column '{name}': {reason}")
                    start += batch.num_rows
                rows += start
        if rows < least.get(split, 0):
            where = files[split][0].path
            raise ConfigError(
                f"task.data: {where}: {rows} rows in the split '{split}'; expected {least[split]} at least"
            )
        for name in sorted(described):
            value = hashes[name].hexdigest() if name in hashes else ""
            digest.update(f"{split}/{name}/{sorted(described[name])}/{value}\n".encode())
    return digest.hexdigest()


def _check_schema(path: Path, schema: pa.Schema, wanted: Kinds, seen: dict[str, tuple[Path, list[str]]]) -> None:
    """Every wanted column is there once, and its classes have the numbers that they have in the other files."""
    there = columns.names(schema)
    for name in there:
        if there.count(name) > 1:
            raise ConfigError(f"task.data: {path}: two columns are called '{name}'")
    for name in wanted:
        if name not in there:
            raise ConfigError(f"task.data: {path}: no column '{name}'; {nearest(name, there)}")
    for name, told in class_names(schema).items():
        if name in wanted:
            other, known = seen.setdefault(name, (path, told))
            if told != known:
                raise ConfigError(f"task.data: {path} and {other} name the classes of column '{name}' differently")


def _rows(path: Path, batch: pa.RecordBatch, start: int) -> dict[str, list[Any]]:
    """Column → values of a file's rows from `start` on."""
    rows = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            rows[name] = column.to_pylist()
        except UnicodeDecodeError:
            row = start + next(row for row in range(len(column)) if not _is_unicode(column[row]))
            raise ConfigError(f"task.data: {path}, row {row}, column '{name}': its text is not UTF-8") from None
    return rows


def _fault(
    schema: pa.Schema, rows: Mapping[str, list[Any]], wanted: Kinds, told: Mapping[str, list[str]]
) -> tuple[str, columns.Fault] | None:
    """The first column of some rows that is not what it must be, and what is wrong with it."""
    table = {
        name: columns.Column(columns.type_name(schema.field(name).type), values, told.get(name))
        for name, values in rows.items()
    }
    for name, kind in columns.nested(schema).items():
        table[name] = columns.Column(kind, [row and row[name] for row in rows[columns.NESTED]])
    for name, (kind, *arguments) in wanted.items():
        if fault := columns.check(table, name, kind, *arguments):
            return name, fault
    return None


def _is_unicode(value: pa.Scalar) -> bool:
    try:
        value.as_py()
    except UnicodeDecodeError:
        return False
    return True


def _encoded(values: list[Any]) -> bytes:
    """Values as bytes, each with its length before it, so that no two columns look alike."""
    parts = []
    for value in values:
        if isinstance(value, dict) and "bytes" in value:
            value = value["bytes"]  # an image: beside it stands only the name of the file it once was
        content = value if isinstance(value, bytes) else repr(value).encode()
        parts += [f"{len(content)}:".encode(), content]
    return b"".join(parts)


def _stored(schema: pa.Schema, wanted: Sequence[str]) -> list[str]:
    """The stored columns that the wanted ones lie in."""
    return sorted({name if name in schema.names else columns.NESTED for name in wanted})
