"""Tables as Parquet with page checksums; the file names its schema, which is checked on reading."""

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from secondary_sinks import files
from secondary_sinks.errors import RunFolderError
from secondary_sinks.memory import free_bytes, gigabytes

SCHEMAS = {"sinks": 1, "effects": 1, "trace": 1, "roles": 1}
"""Version of each table (1 if not listed), raised when a column is removed or changes its
meaning."""
MARK = b"secondary_sinks"


def to_arrow(name: str, frame: pd.DataFrame) -> pa.Table:
    """A frame as an Arrow table that names its schema."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    mark = json.dumps({"table": name, "schema": SCHEMAS.get(name, 1)}).encode()
    return table.replace_schema_metadata({MARK: mark})


def to_bytes(name: str, frame: pd.DataFrame) -> bytes:
    """A table as the bytes of a Parquet file; equal tables give equal bytes."""
    sink = io.BytesIO()
    pq.write_table(to_arrow(name, frame), sink, write_page_checksum=True)
    return sink.getvalue()


def read(path: Path, **chosen: Any) -> pa.Table:
    """Read a table; verify checksums and schema. `chosen`: columns and filters for pyarrow."""
    refuse_beyond_memory(path)
    with files.open_file(path) as file:
        table = pq.read_table(file, page_checksum_verification=True, **chosen)
    check_schema(table.schema.metadata, path)
    return table


def refuse_beyond_memory(path: Path) -> None:
    """Raise `RunFolderError` for a table that needs more memory than is free.

    A column of equal values takes a few bytes in the file, whatever its length. Texts are counted
    with each repetition, but read only once each.
    """
    with files.open_file(path) as file:
        metadata, free = pq.read_metadata(file), free_bytes()
        needed = metadata.num_rows * metadata.num_columns * 8
        if free is not None and needed <= free:
            needed += _bytes_of_texts(file)
    if free is not None and needed > free:
        raise RunFolderError(
            f"{str(path)!r} holds {metadata.num_rows:,} rows of {metadata.num_columns} columns, "
            f"which need {gigabytes(needed)} of memory; {gigabytes(free)} is free"
        )


def _bytes_of_texts(file: Any) -> int:
    """Size of all texts of a table in memory, in bytes."""
    kinds = {pa.string(), pa.large_string(), pa.binary(), pa.large_binary()}
    types = {field.name: field.type for field in pq.read_schema(file)}
    of_words = {
        name: kind.value_type if pa.types.is_dictionary(kind) else kind
        for name, kind in types.items()
    }
    names = [name for name, kind in of_words.items() if kind in kinds]
    found = pq.read_table(file, columns=names, read_dictionary=names)
    parts = [part for column in found.columns for part in column.chunks]
    lengths = [pc.take(pc.binary_length(part.dictionary), part.indices) for part in parts]
    return sum(pc.sum(one).as_py() or 0 for one in lengths)


def check_schema(metadata: dict[bytes, bytes] | None, path: Path) -> None:
    """Raise `RunFolderError` if a table names a schema that this version cannot read."""
    if MARK not in (metadata or {}):
        return  # written before tables named their schema; their columns are checked on use
    mark: Any = files.load_json((metadata or {})[MARK])
    if not isinstance(mark, dict) or not isinstance(mark.get("table"), str):
        raise ValueError(f"its schema is {mark!r:.60}; expected a table and a number")
    name, schema = mark["table"], mark.get("schema")
    if SCHEMAS.get(name, 1) != schema:
        raise RunFolderError(
            f"{str(path)!r} holds table {name!r} of schema {schema}; this version reads "
            f"{', '.join(f'{key} {value}' for key, value in SCHEMAS.items())}: read it with the "
            "version that wrote it (see run.json), or run again"
        )
