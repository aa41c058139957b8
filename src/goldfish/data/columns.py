"""Checks of the columns of real data, each made once, before anything trains on them.

A task's file says what it reads: `COLUMNS` maps a column's name to its kind and that kind's arguments, such as
("classes", 2). A fault is a row, counted from 0, and what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa

NESTED = "translation"  # a column whose fields count as columns: the hub's form of a table of pairs
LARGEST = 3.4028234663852886e38  # float32: what is larger would become infinite
SCHEMES = {"IOB": {"B", "I"}, "IOBES": {"B", "I", "E", "S"}, "BILOU": {"B", "I", "L", "U"}}
_HINTS = {-1: "published test sets hide their labels so", -100: "other software leaves such labels out of its loss"}
_NUMBER = "(u?int(8|16|32|64)|halffloat|float|double)"


class Fault(NamedTuple):
    """What is wrong with a column, and at which row; None where it is the whole column."""

    row: int | None
    reason: str


class Column(NamedTuple):
    """Rows of one column.

    kind: its type by what it holds (`type_name`).
    values: a row's value each, None for null.
    names: of the classes that its numbers stand for, as the file says them; None where it says none.
    """

    kind: str
    values: Sequence[Any]
    names: Sequence[str] | None = None


def check(table: Mapping[str, Column], name: str, kind: str, *arguments: Any) -> Fault | None:
    """The first fault of a column among some rows of a table, None where there is none."""
    return KINDS[kind](table, table[name], *arguments)


def names(schema: pa.Schema) -> list[str]:
    """The columns that there are, a nested one's fields in its place."""
    return [name for name in schema.names if name != NESTED] + list(nested(schema))


def values(batch: pa.RecordBatch, name: str) -> pa.Array:
    """A column, or a nested one's field, without a dictionary."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = batch.column(name) if name in batch.schema.names else pc.struct_field(batch.column(NESTED), name)
    if pa.types.is_dictionary(column.type):
        return column.dictionary_decode()
    if type_name(column.type) == "list<string>":
        return column.cast(pa.list_(pa.string()))
    return column


def type_name(kind: pa.DataType) -> str:
    """An arrow type by what it holds, however that is stored: a large string is a string, an image is its bytes."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return type_name(kind.value_type)
    if pa.types.is_struct(kind):
        fields = {kind.field(index).name: kind.field(index).type for index in range(kind.num_fields)}
        if "bytes" in fields:
            return "image"
        return "struct<" + ", ".join(f"{name}: {type_name(own)}" for name, own in sorted(fields.items())) + ">"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return f"list<{type_name(kind.value_type)}>"
    return re.sub("large_(string|binary)|(string|binary)_view", lambda match: match[1] or match[2], str(kind))


def nested(schema: pa.Schema) -> Mapping[str, str]:
    """Field → type by what it holds, of a nested column; {} where there is none."""
    if NESTED not in schema.names:
        return {}
    kind = schema.field(NESTED).type
    return {kind.field(index).name: type_name(kind.field(index).type) for index in range(kind.num_fields)}


def scheme(tags: Sequence[str]) -> str | None:
    """The scheme that tags of entities follow, by its name; None for tags that follow none.

    Tags are O, a mark such as B, or a mark, a dash and a type, such as B-person.
    """
    marks = {tag.partition("-")[0] for tag in tags} - {"O"}
    return next((name for name, known in SCHEMES.items() if marks <= known), None)


def _texts(table: Mapping[str, Column], column: Column) -> Fault | None:
    """Texts, which may be empty."""
    return _wrong(column, "string", "texts") or _first(column.values, lambda text: "")


def _words(table: Mapping[str, Column], column: Column) -> Fault | None:
    """Texts with a word in each."""

    def reason(text: str) -> str:
        return "" if text.replace("<br />", " ").strip() else "an empty text; expected a word at least"

    return _wrong(column, "string", "texts") or _first(column.values, reason)


def _classes(table: Mapping[str, Column], column: Column, count: int) -> Fault | None:
    """Numbers of classes below `count`, whatever type they are stored as; booleans for two."""
    known = f"{_NUMBER}|bool" if count == 2 else _NUMBER
    wrong = _wrong(column, known, f"whole numbers from 0 to {count - 1}")
    if not wrong and column.names is not None and len(column.names) != count:
        return Fault(None, f"it has {len(column.names)} classes ({', '.join(column.names)}); expected {count}")
    return wrong or _first(column.values, lambda value: _no_class(value, count))


def _tokens(table: Mapping[str, Column], column: Column) -> Fault | None:
    """Lists of words, none of them empty."""

    def reason(words: list[str | None]) -> str:
        return "null among its values" if None in words else "" if words else "a sentence without words"

    return _wrong(column, "list<string>", "lists of words") or _first(column.values, reason)


def _tags(table: Mapping[str, Column], column: Column, beside: str, entities: bool) -> Fault | None:
    """A class with a name for each word of the column `beside`; those of entities follow a scheme."""
    if wrong := _wrong(column, f"list<{_NUMBER}>", "lists of whole numbers") or _unnamed(column.names, entities):
        return wrong
    sentences = iter(table[beside].values)

    def reason(tags: list[Any]) -> str:
        words = next(sentences) or []
        if len(tags) != len(words):
            return f"{len(tags)} tags for {len(words)} words in '{beside}'"
        return next(filter(None, (_no_class(tag, len(column.names or [])) for tag in tags)), "")

    return _first(column.values, reason)


def _steps(table: Mapping[str, Column], column: Column, width: int) -> Fault | None:
    """Lists of steps, one or more, each a list of `width` finite numbers."""

    def reason(steps: list[list[float | None] | None]) -> str:
        for step in steps:
            if step is None or None in step:
                return "null among its values"
            if len(step) != width:
                return f"a step of {len(step)} numbers; expected {width}"
            for number in step:
                if not abs(number or 0) <= LARGEST:  # as NaN is not
                    return f"{number}; expected a finite number"
        return "" if steps else "a series without steps"

    return _wrong(column, f"list<list<{_NUMBER}>>", f"lists of steps of {width} numbers") or _first(
        column.values, reason
    )


def _images(table: Mapping[str, Column], column: Column) -> Fault | None:
    """Encoded images: structs with a field `bytes`."""
    wrong = _wrong(column, "image", "images, with their encoded bytes")
    return wrong or _first(column.values, lambda image: "no image" if image["bytes"] is None else "")


KINDS: Mapping[str, Callable[..., Fault | None]] = {
    "texts": _texts,
    "words": _words,
    "classes": _classes,
    "tokens": _tokens,
    "tags": _tags,
    "steps": _steps,
    "images": _images,
}


def _first(values: Sequence[Any], reason: Callable[[Any], str]) -> Fault | None:
    """The first value that is null, or that there is a reason against."""
    for row, value in enumerate(values):
        if told := "null" if value is None else reason(value):
            return Fault(row, told)
    return None


def _wrong(column: Column, known: str, expected: str) -> Fault | None:
    if re.fullmatch(known, column.kind):
        return None
    return Fault(None, f"it holds {column.kind}; expected {expected}")


def _no_class(value: float | None, count: int) -> str:
    if value is not None and 0 <= value < count and value == int(value):
        return ""
    told = "null" if value is None else value
    hint = f" ({_HINTS[int(told)]})" if told in _HINTS else ""
    return f"{told} is no class; expected a whole number from 0 to {count - 1}{hint}"


def _unnamed(told: Sequence[str] | None, entities: bool) -> Fault | None:
    """What is wrong with the names of tags."""
    if told is None:
        return Fault(None, "its numbers have no names; expected the type ClassLabel of the library datasets")
    twice = next((name for name in told if list(told).count(name) > 1), None)
    if twice is not None:
        return Fault(None, f"two of its tags are called '{twice}'")
    if entities and scheme(told) is None:
        known = "; ".join(f"{name}: {', '.join(sorted(marks))}" for name, marks in SCHEMES.items())
        odd = next((tag for tag in told if scheme([tag]) is None), None) or ", ".join(told)
        return Fault(None, f"'{odd}' follows no scheme of tags; expected O or a mark, a dash and a type ({known})")
    return None
