"""Catalogues in Parquet: read in batches, only the columns that are needed."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lib.core.errors import WorkbookError
from lib.tracks.readers.rows import CHUNK, flatten, strings, text
from lib.tracks.readers.source import Chunk, Source

SPARE, TIMES = 2**27, 100  # bytes (a value: 8) that any file may unpack to; and more, for each of its own bytes
UNREADABLE = (pa.ArrowException, OSError, UnicodeError)
TEXTS, LARGEST = ("string", "large_string", "binary", "large_binary"), 2**29  # bytes of a column's chunk


def read(file: Path, reading: dict[str, str]) -> Source:
    """Open a Parquet file."""
    try:
        metadata, schema = pq.read_metadata(file), pq.read_schema(file)
        columns = [name for field in schema for name in _names(field.name, field.type)]
        leaves = map(metadata.schema.column, range(metadata.num_columns))
        texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
    except UNREADABLE as error:
        raise _damaged(file, error) from error
    _check_size(file, metadata)

    def chunks(wanted: list[str] | None) -> Iterator[Chunk]:
        wanted, first = columns if wanted is None else wanted, 1
        fields = [f.name for f in schema if wanted is columns or set(_names(f.name, f.type)) & set(wanted)]
        try:
            opened = pq.ParquetFile(file, read_dictionary=texts)
            for batch in opened.iter_batches(CHUNK, columns=list(dict.fromkeys(fields))):
                yield Chunk(np.arange(first, first + len(batch)), _table(batch, wanted), [])
                first += len(batch)
        except UNREADABLE as error:
            raise _damaged(file, error) from error

    return Source(file, "Parquet", {"rows": f"{metadata.num_rows:,}"}, columns, chunks)


def _check_size(file: Path, metadata: pq.FileMetaData) -> None:
    """Raise WorkbookError if a file is far larger unpacked: a kilobyte can hold millions of equal or empty values."""
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    chunks = [group.column(i) for group in groups for i in range(group.num_columns)]
    values, size = sum(chunk.num_values for chunk in chunks), sum(chunk.total_uncompressed_size for chunk in chunks)
    if max(size, 8 * values, 8 * metadata.num_rows) > SPARE + TIMES * file.stat().st_size:
        raise WorkbookError(f"{file}: {values:,} values and {size:,} bytes are packed in it, far more than its size.")


def _damaged(file: Path, error: Exception) -> WorkbookError:
    reason = str(error).splitlines()[0].rstrip(".")
    return WorkbookError(f"{file}: the Parquet file is damaged or cut ({reason}). Write or download it again.")


def _names(name: str, kind: pa.DataType) -> list[str]:
    """Return the names of the text columns that a column of this type becomes."""
    if pa.types.is_struct(kind):
        return [inner for field in kind for inner in _names(f"{name}.{field.name}", field.type)]
    if _is_list(kind):
        return _names(name, kind.value_type)
    return [name]


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _table(batch: pa.RecordBatch, wanted: list[str]) -> pa.Table:
    """Return a batch as text columns."""
    texts = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        for inner, values in _texts(name, column):
            texts.setdefault(inner, []).append(values)
    nothing = pa.nulls(len(batch), pa.string())
    # A name that the file has twice takes its columns in turn.
    arrays = [texts[name].pop(0) if texts.get(name) else nothing for name in wanted]
    return pa.Table.from_arrays(arrays, names=wanted)


def _texts(name: str, column: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    """Yield the text columns of a column."""
    kind = column.type
    if isinstance(column, pa.ExtensionArray):
        yield from _texts(name, column.storage)
    elif pa.types.is_struct(kind):
        for field, inner in zip(kind, column.flatten(), strict=True):
            yield from _texts(f"{name}.{field.name}", inner)
    elif pa.types.is_dictionary(kind):
        if str(kind.value_type) in TEXTS:  # a file of a kilobyte may repeat a long value until memory is full
            size = pc.sum(pc.binary_length(column.dictionary).take(column.indices)).as_py() or 0
            if size > LARGEST:
                raise pa.ArrowInvalid(f"{len(column):,} values of {name!r} take {size / 2**30:.1f} GiB")
        yield from _texts(name, column.dictionary_decode())
    elif _is_list(kind):
        flat = [flatten({name: value}) for value in column.to_pylist()]
        yield from ((inner, strings([row.get(inner) for row in flat])) for inner in _names(name, kind))
    elif pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), None, column.cast(pa.float64() if kind == pa.float16() else kind))
        yield name, column.cast(pa.string())
    else:
        yield name, _cast(column)


def _cast(column: pa.Array) -> pa.Array:
    try:
        if not pa.types.is_duration(column.type):  # 0:03:45, not a count of microseconds
            return column.cast(pa.string())
    except (pa.ArrowException, UnicodeError):  # bytes that are no UTF-8, and types that Arrow has no text for
        pass
    return strings([text(value) for value in column.to_pylist()])
