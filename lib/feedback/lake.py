"""The lake of events: hourly Parquet files, dt=2026-11-30/hour=09, in a folder or on S3."""

import os
import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow import fs

from lib.core.errors import WorkbookError
from lib.core.paths import resolve

UTC = pa.timestamp("us", tz="UTC")
# A row is an event, as deploy/scale/events/schema.py describes it.
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "kind", "track", "request", "session")),
        *((name, UTC) for name in ("at", "received")),
        ("position", pa.int32()),
        ("score", pa.float64()),
        ("parts", pa.map_(pa.string(), pa.float64())),
        *((name, pa.string()) for name in ("model", "mood", "text")),
    ]
)
COLUMNS = [name for name in SCHEMA.names if name not in ("received", "parts")]  # that the loop reads
HOUR = re.compile(r"dt=(\d{4}-\d\d-\d\d)/hour=(\d\d)/[^/]+\.parquet$")


def read(place: str, since: str = "", until: str = "") -> tuple[pd.DataFrame, list[str]]:
    """Read the events from `since` to before `until`: times such as 2026-11-30T09, in UTC; "" is no limit.

    Args:
        place: a folder, or s3://bucket/prefix. The variable S3 names the endpoint of a store that is not Amazon's.

    Returns:
        The events in the order of time, an id once; and the names of the files that are damaged, which are left out.

    Raises:
        WorkbookError: there is no such lake, or a time is none.
    """
    first, last = _time("since", since), _time("until", until)
    try:
        store, root = _open(place)
        files = sorted(info.path for info in store.get_file_info(fs.FileSelector(root, recursive=True)))
    except (OSError, ValueError) as error:
        raise WorkbookError(f"no lake can be read at {place}: {error}") from error
    tables, damaged = [SCHEMA.empty_table().select(COLUMNS)], []
    for file in files:
        hour = (match := HOUR.search(file)) and pd.Timestamp(f"{match[1]}T{match[2]}", tz="UTC")
        if hour is None or (first and hour < first.floor("h")) or (last and hour >= last):
            continue
        try:
            tables.append(ds.dataset(file, SCHEMA, format="parquet", filesystem=store).to_table(COLUMNS))
        except (pa.ArrowException, OSError):
            damaged.append(match[0])
    events = pa.concat_tables(tables).to_pandas().drop_duplicates("id").sort_values(["at", "id"], ignore_index=True)
    inside = (events["at"] >= first if first else True) & (events["at"] < last if last else True)
    return events[inside & events["at"].notna()].reset_index(drop=True), damaged


def write(events: list[dict], folder: Path) -> None:
    """Write events, with the columns of `SCHEMA`, into the hours of a lake in a folder."""
    table = pa.Table.from_pylist(events, SCHEMA)
    for name, form in (("dt", "%Y-%m-%d"), ("hour", "%H")):
        table = table.append_column(name, pa.compute.strftime(table["at"], form))
    hours = ds.partitioning(pa.schema([("dt", pa.string()), ("hour", pa.string())]), flavor="hive")
    options = {"basename_template": "00000000-{i}.parquet", "existing_data_behavior": "overwrite_or_ignore"}
    ds.write_dataset(table, folder, format="parquet", partitioning=hours, **options)


def _open(place: str) -> tuple[fs.FileSystem, str]:
    if place.startswith("s3://"):
        endpoint = os.environ.get("S3")
        return fs.S3FileSystem(**{"endpoint_override": endpoint} if endpoint else {}), place.removeprefix("s3://")
    return fs.LocalFileSystem(), str(resolve(place))


def _time(name: str, text: str) -> pd.Timestamp | None:
    try:
        return pd.to_datetime(text, utc=True) if text else None
    except ValueError as error:
        raise WorkbookError(f"{name} is {text!r}, but must be a time such as 2026-11-30T09.") from error
