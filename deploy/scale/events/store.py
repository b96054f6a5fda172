"""The lake's files, in a folder or on S3: listed, read, written, moved out of the way.

Settings, as environment variables: LAKE, a folder or s3://bucket/prefix; S3, the endpoint of a store that is not
Amazon's. Beside the lake's folder `events` are `rejected`, the lines that did not get into it, and `forgotten`.
"""

import hashlib
import io
import os
import re
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

# A row is a line that did not get into the lake, and its place in the topic.
REJECTED = pa.schema(
    [
        ("reason", pa.string()),
        ("line", pa.binary()),
        ("session", pa.string()),  # if the line has one: for `forget`
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("timestamp", pa.timestamp("us", tz="UTC")),
    ]
)
DAY = re.compile(r"(?:^|/)dt=(\d{4}-\d\d-\d\d)(?:/|$)")


class Damaged(Exception):
    """A file that is no Parquet file."""


class Store(NamedTuple):
    """A file system, and the folder in it that has `events`, `rejected` and `forgotten`."""

    files: fs.FileSystem
    root: str
    events: str  # the lake's folder

    def path(self, *parts: str) -> str:
        """Return the path of a file or folder beside the lake."""
        return str(PurePosixPath(self.root, *parts))

    def infos(self, folder: str, recursive: bool = True) -> list[fs.FileInfo]:
        """Return what is in a folder, nothing if there is no such folder."""
        infos = self.files.get_file_info(fs.FileSelector(folder, allow_not_found=True, recursive=recursive))
        return sorted(infos, key=lambda info: info.path)

    def parquet(self, folder: str) -> list[fs.FileInfo]:
        """Return the Parquet files of a folder and its folders."""
        return [info for info in self.infos(folder) if info.is_file and info.path.endswith(".parquet")]

    def write(self, path: str, content: bytes) -> None:
        """Write a file as a whole: readers see the old one or the new one."""
        if isinstance(self.files, fs.LocalFileSystem):
            self.files.create_dir(str(PurePosixPath(path).parent))
            with self.files.open_output_stream(f"{path}.new") as file:
                file.write(content)
            self.files.move(f"{path}.new", path)
        else:  # S3 shows an object when all of it has arrived
            with self.files.open_output_stream(path) as file:
                file.write(content)

    def write_table(self, path: str, table: pa.Table) -> None:
        """Write a table as a Parquet file, as a whole."""
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        self.write(path, buffer.getvalue())

    def table(self, path: str, columns: list[str] | None = None) -> pa.Table:
        """Return a Parquet file's columns.

        Raises:
            Damaged: it is no Parquet file.
            OSError: it is gone, or the store is away.
        """
        with self.files.open_input_file(path) as file:
            content = file.read()
        try:
            return pq.ParquetFile(io.BytesIO(content)).read(columns)
        except (pa.ArrowException, OSError) as error:
            raise Damaged(f"{path} is damaged: {error}") from error

    def forgotten(self) -> dict[str, datetime]:
        """Return when each session was forgotten, by its hash."""
        return {info.base_name: info.mtime for info in self.infos(self.path("forgotten")) if info.is_file}


@lru_cache
def open_store(place: str) -> Store:
    """Open the lake at a place, once in a process."""
    if not place.startswith("s3://"):
        folder = Path(place).absolute()
        return Store(fs.LocalFileSystem(), str(folder.parent), str(folder))
    retries = fs.AwsStandardS3RetryStrategy(max_attempts=10)
    options = {"connect_timeout": 5, "request_timeout": 60, "retry_strategy": retries}
    if endpoint := os.environ.get("S3"):
        options |= {"endpoint_override": endpoint}
    events = PurePosixPath(place.removeprefix("s3://"))
    return Store(fs.S3FileSystem(**options), str(events.parent), str(events))


def hour(at: datetime) -> str:
    """Return the folder of an event's hour, such as dt=2026-11-30/hour=09."""
    return at.astimezone(UTC).strftime("dt=%Y-%m-%d/hour=%H")


def code(session: str) -> str:
    """Return the hash by which a forgotten session is known: its name is kept nowhere."""
    return hashlib.sha256(session.encode()).hexdigest()
