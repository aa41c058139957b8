"""What a column of real data must hold: each is checked once, before anything trains on it.

A task's file says what it reads: `COLUMNS` maps a column's name to its kind and that kind's arguments, such as
("classes", 2). Checking imports pyarrow alone. A fault is a row, counted from 0, and what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from goldfish.errors import nearest

if TYPE_CHECKING:
    import pyarrow as pa

NESTED = "translation"  # a column whose fields count as columns: the hub's form of a table of pairs
LARGEST = 3.4028234663852886e38  # float32: what is larger would become infinite
_HINTS = {-1: "published test sets hide their labels so", -100: "other software leaves such labels out of its loss"}
SCHEMES = {"IOB": {"B", "I"}, "IOBES": {"B", "I", "E", "S"}, "BILOU": {"B", "I", "L", "U"}}


class Fault(NamedTuple):
    """What is wrong with a column; row None where it is all of it."""

    row: int | None
    reason: str


class Column(NamedTuple):
    """Rows of one column.

    values: (n,), of any arrow type but a dictionary.
    names: of the classes that its numbers stand for, as the file says them; None where it says none.
    beside: the rows of another column by its name.
    """

    values: pa.Array
    names: Sequence[str] | None
    beside: Callable[[str], pa.Array]


def check(kind: str, arguments: Sequence[Any], column: Column) -> Fault | None:
    """The first fault of some rows, None where there is none."""
    return KINDS[kind](column, *arguments)


def names(table: pa.RecordBatch | pa.Table | pa.Schema) -> list[str]:
    """The columns that there are, the fields of a nested one in its place."""
    schema = getattr(table, "schema", table)
    if NESTED not in schema.names:
        return list(schema.names)
    kind = schema.field(NESTED).type
    fields = [kind.field(index).name for index in range(kind.num_fields)]
    return [name for name in schema.names if name != NESTED] + fields


def values(batch: pa.RecordBatch, name: str) -> pa.Array:
    """A column, or a nested one's field, without a dictionary. Raises KeyError when there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if name in batch.schema.names:
        found = batch.column(name)
    elif NESTED in batch.schema.names and name in names(batch):
        found = pc.struct_field(batch.column(NESTED), name)
    else:
        raise KeyError(f"no column '{name}'; {nearest(name, names(batch))}")
    if pa.types.is_dictionary(found.type):
        return found.dictionary_decode()
    if _is_list(found.type) and pa.types.is_dictionary(found.type.value_type):
        return found.cast(pa.list_(found.type.value_type.value_type))
    return found


def type_name(kind: pa.DataType) -> str:
    """An arrow type by what it holds, however that is stored: a large string is a string, an image is its bytes."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return type_name(kind.value_type)
    if _is_text(kind):
        return "string"
    if _is_list(kind):
        return f"list<{type_name(kind.value_type)}>"
    if pa.types.is_struct(kind):
        fields = {kind.field(index).name: kind.field(index).type for index in range(kind.num_fields)}
        if "bytes" in fields:
            return "image"
        return "struct<" + ", ".join(f"{name}: {type_name(own)}" for name, own in sorted(fields.items())) + ">"
    return str(kind).replace("large_binary", "binary")


def scheme(tags: Sequence[str]) -> str | None:
    """The scheme that tags of entities follow, by its name; None for tags that follow none.

    Tags are O, a mark such as B, or a mark, a dash and a type, such as B-person.
    """
    marks = {tag.partition("-")[0] for tag in tags} - {"O"}
    return next((name for name, known in SCHEMES.items() if marks <= known), None)


def _texts(column: Column) -> Fault | None:
    """Texts, which may be empty."""
    if not _is_text(column.values.type):
        return _wrong(column, "texts")
    return _no_nulls(column)


def _words(column: Column) -> Fault | None:
    """Texts with a word in each."""
    import pyarrow.compute as pc

    if fault := _texts(column):
        return fault
    bare = pc.utf8_trim_whitespace(pc.replace_substring(column.values, "<br />", " "))
    row = _first(pc.equal(pc.utf8_length(bare), 0))
    return None if row is None else Fault(row, "an empty text; expected a word at least")


def _classes(column: Column, count: int) -> Fault | None:
    """Numbers of classes below `count`, booleans for two."""
    import pyarrow as pa

    kind = column.values.type
    if pa.types.is_boolean(kind) and count == 2:
        return _no_nulls(column)
    return (
        _numbers(column.values, count) if _is_number(kind) else _wrong(column, f"whole numbers from 0 to {count - 1}")
    )


def _tokens(column: Column) -> Fault | None:
    """Lists of words, none of them empty."""
    import pyarrow.compute as pc

    kind = column.values.type
    if not _is_list(kind) or not _is_text(kind.value_type):
        return _wrong(column, "lists of words")
    if fault := _no_nulls(column) or _no_nulls_inside(column.values):
        return fault
    row = _first(pc.equal(pc.list_value_length(column.values), 0))
    return None if row is None else Fault(row, "a sentence without words")


def _tags(column: Column, beside: str, entities: bool) -> Fault | None:
    """A class with a name for each word of the column `beside`; those of entities follow a scheme."""
    import pyarrow.compute as pc

    kind, told = column.values.type, column.names
    if not _is_list(kind) or not _is_number(kind.value_type):
        return _wrong(column, "lists of whole numbers")
    if told is None:
        return Fault(None, "its numbers have no names; expected the type ClassLabel of the library datasets")
    if fault := _names(told, entities) or _no_nulls(column):
        return fault
    lengths, words = pc.list_value_length(column.values), pc.list_value_length(column.beside(beside))
    row = _first(pc.not_equal(lengths, words))
    if row is not None:
        return Fault(row, f"{lengths[row]} tags for {words[row]} words in '{beside}'")
    return _inside(column.values, _numbers(pc.list_flatten(column.values), len(told)))


def _steps(column: Column, width: int) -> Fault | None:
    """Lists of steps, one or more, each a list of `width` finite numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.values.type
    if not _is_list(kind) or not _is_list(kind.value_type) or not _is_number(kind.value_type.value_type):
        return _wrong(column, f"lists of steps of {width} numbers")
    if fault := _no_nulls(column) or _no_nulls_inside(column.values):
        return fault
    row = _first(pc.equal(pc.list_value_length(column.values), 0))
    if row is not None:
        return Fault(row, "a series without steps")
    steps = pc.list_flatten(column.values)
    if (step := _first(pc.not_equal(pc.list_value_length(steps), width))) is not None:
        reason = f"a step of {pc.list_value_length(steps)[step]} numbers; expected {width}"
        return _inside(column.values, Fault(step, reason))
    numbers = pc.list_flatten(steps).cast(pa.float64(), safe=False)
    wrong = pc.invert(pc.fill_null(pc.less_equal(pc.abs(numbers), LARGEST), fill_value=False))  # NaN is not less
    if (place := _first(wrong)) is not None:
        return _inside(column.values, Fault(place // width, f"{numbers[place]}; expected a finite number"))
    return None


def _images(column: Column) -> Fault | None:
    """Encoded images: structs with a field `bytes`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_struct(column.values.type) or column.values.type.get_field_index("bytes") < 0:
        return _wrong(column, "images, with their encoded bytes")
    row = _first(pc.is_null(pc.struct_field(column.values, "bytes")))
    return None if row is None else Fault(row, "no image")


KINDS: Mapping[str, Callable[..., Fault | None]] = {
    "texts": _texts,
    "words": _words,
    "classes": _classes,
    "tokens": _tokens,
    "tags": _tags,
    "steps": _steps,
    "images": _images,
}


def _names(told: Sequence[str], entities: bool) -> Fault | None:
    twice = next((name for name in told if told.count(name) > 1), None)
    if twice is not None:
        return Fault(None, f"two of its tags are called '{twice}'")
    if entities and scheme(told) is None:
        known = "; ".join(f"{name}: {', '.join(sorted(marks))}" for name, marks in SCHEMES.items())
        odd = next((tag for tag in told if scheme([tag]) is None), None) or ", ".join(told)
        return Fault(None, f"'{odd}' follows no scheme of tags; expected O or a mark, a dash and a type ({known})")
    return None


def _numbers(numbers: pa.Array, count: int) -> Fault | None:
    """Whole numbers from 0 to count − 1, also where they are stored as floats."""
    import pyarrow.compute as pc

    inside = pc.and_(pc.greater_equal(numbers, 0), pc.less(numbers, count))
    whole = pc.and_(inside, pc.equal(pc.floor(numbers), numbers))
    row = _first(pc.invert(pc.fill_null(whole, fill_value=False)))
    if row is None:
        return None
    value = numbers[row].as_py()
    if value is None:
        return Fault(row, "null; expected a class")
    hint = f" ({_HINTS[value]})" if value in _HINTS else ""
    return Fault(row, f"{value} is no class; expected a whole number from 0 to {count - 1}{hint}")


def _first(wrong: pa.Array) -> int | None:
    """Where the first True stands."""
    import pyarrow.compute as pc

    row: int = pc.index(wrong, value=True).as_py()
    return None if row < 0 else row


def _inside(lists: pa.Array, fault: Fault | None) -> Fault | None:
    """A fault of a flattened column, at the row that its value lies in."""
    import pyarrow.compute as pc

    return fault and Fault(pc.list_parent_indices(lists)[fault.row].as_py(), fault.reason)


def _no_nulls(column: Column) -> Fault | None:
    import pyarrow.compute as pc

    row = _first(pc.is_null(column.values)) if column.values.null_count else None
    return None if row is None else Fault(row, "null")


def _no_nulls_inside(lists: pa.Array) -> Fault | None:
    import pyarrow.compute as pc

    inner = pc.list_flatten(lists)
    row = _first(pc.is_null(inner)) if inner.null_count else None
    return None if row is None else _inside(lists, Fault(row, "null among its values"))


def _wrong(column: Column, expected: str) -> Fault:
    return Fault(None, f"it holds {type_name(column.values.type)}; expected {expected}")


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_list(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
