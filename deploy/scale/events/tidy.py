"""The rules by which the lake's job removes what is old: days of the lake, log files, the topic's messages.

Settings, as environment variables: LAKE_DAYS (90), by an event's day; LOG_HOURS (24), after a log file's last line;
TOPIC_HOURS (1), of the broker that stands in for Kafka here, whose bucket and cluster TANSU names. On real S3 a rule of
the bucket, and in Kafka retention.ms, do the same.
"""

import os
import sys
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from deploy.scale.events import forget, lines
from deploy.scale.events.store import DAY, Damaged, Store, hour

HOUR = 3600.0  # seconds between two looks at the lake and the log


class Tidy:
    """The rules, applied when they are due."""

    def __init__(self, store: Store):
        self.store, self.due = store, 0.0

    def __call__(self, offsets: dict[int, int]) -> None:
        """Apply the rules. `offsets` are the next messages for the lake, by partition."""
        try:
            self.topic(offsets)
            if time.monotonic() >= self.due:
                self.due = time.monotonic() + HOUR
                self.days()
                self.again()
                self.logs()
        except OSError as error:  # the store is away: it is done later
            print(f"not tidied: {error}", file=sys.stderr, flush=True)

    def days(self) -> list[str]:
        """Remove the days of the lake, and of what is beside it, that are too old. Return their files."""
        first = f"{datetime.now(UTC) - timedelta(days=int(os.environ.get('LAKE_DAYS', '90'))):%Y-%m-%d}"
        infos = self.store.infos(self.store.events) + self.store.infos(self.store.path("rejected"))
        old = [info.path for info in infos if info.is_file and (day := DAY.search(info.path)) and day[1] < first]
        marks = [info for info in self.store.infos(self.store.path("forgotten")) if info.is_file]
        old += [info.path for info in marks if f"{info.mtime:%Y-%m-%d}" < first]
        for path in old:
            self.store.files.delete_file(path)
        if isinstance(self.store.files, fs.LocalFileSystem):
            for folder in sorted({Path(path).parent for path in old}, reverse=True):
                if not any(folder.iterdir()):
                    folder.rmdir()
        return old

    def again(self) -> None:
        """Forget once more who was forgotten lately: a batch may have been half written then."""
        lately = datetime.now(UTC) - timedelta(seconds=2 * HOUR)
        before = {name: at for name, at in self.store.forgotten().items() if at > lately}
        if before:
            forget.clean(self.store, before, since=lately)

    def logs(self) -> list[Path]:
        """Remove each log file that is complete, and whose events are all in the lake. Return them."""
        folder, removed = os.environ.get("EVENTS"), []
        oldest = time.time() - float(os.environ.get("LOG_HOURS", "24")) * 3600
        for path in sorted(Path(folder).glob("*.jsonl")) if folder else []:
            if path.stat().st_mtime < oldest and self.shipped(path):
                path.unlink()
                removed.append(path)
        return removed

    def shipped(self, path: Path) -> bool:
        """Return True if all events of a log file are in the lake."""
        hours = defaultdict(list)
        forgotten = self.store.forgotten()
        with path.open("rb") as file:
            for line in file:
                record, reason = lines.read(line)
                if record and not reason and not lines.is_forgotten(record, forgotten):
                    hours[hour(record.at)].append(record.id)
        return all(self._has(each, ids) for each, ids in hours.items())

    def _has(self, each: str, ids: list[str]) -> bool:
        chunks = []
        for info in self.store.parquet(f"{self.store.events}/{each}"):
            try:
                chunks += self.store.table(info.path, ["id"])["id"].chunks
            except Damaged as error:
                print(error, file=sys.stderr, flush=True)
        return pc.all(pc.is_in(pa.array(ids), pa.chunked_array(chunks, pa.string()).combine_chunks())).as_py()

    def topic(self, offsets: dict[int, int]) -> int:
        """Remove the messages of Tansu that are in the lake and old. Return the number of its objects removed."""
        if not (cluster := os.environ.get("TANSU")):
            return 0
        oldest, removed = datetime.now(UTC) - timedelta(hours=float(os.environ.get("TOPIC_HOURS", "1"))), 0
        for partition, offset in offsets.items():
            infos = self.store.infos(f"{cluster}/topics/events/partitions/{partition:010d}/records")
            # A batch ends where the next one begins; the last one stays.
            for info, after in pairwise(infos):
                if info.mtime < oldest and int(after.base_name.partition(".")[0]) <= offset:
                    self.store.files.delete_file(info.path)
                    removed += 1
        return removed
