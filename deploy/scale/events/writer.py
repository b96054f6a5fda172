"""A task of the lake's job: it writes events into their hours, and the other lines beside the lake."""

import json
import sys
from collections import Counter
from datetime import timedelta
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from deploy.scale.events import lines
from deploy.scale.events.store import REJECTED, Damaged, hour, open_store

BUCKETS = 2  # tasks that write, by the hash of the id


@lru_cache(maxsize=500)  # 200 MB, if each file has 10,000 ids
def _ids(place: str, path: str) -> pa.ChunkedArray:
    """Return the ids of a file of the lake, none if it is damaged. No other event comes into a file."""
    try:
        return open_store(place).table(path, ["id"])["id"]
    except Damaged as error:
        print(error, file=sys.stderr, flush=True)
        return pa.chunked_array([], pa.string())


class Writer:
    """A task of a batch: it writes the events of one bucket of ids."""

    def __init__(self, query: str, batch: int, bucket: int, place: str):
        self.place, self.store, self.counts, self.reasons = place, open_store(place), Counter(), Counter()
        self.name = f"{query[:8]}-{batch:08d}-{bucket}of{BUCKETS}.parquet"
        self.others = tuple(f"-{n}of{BUCKETS}.parquet" for n in range(BUCKETS) if n != bucket)
        self.forgotten = self.store.forgotten()
        self.tables, self.rejected = [], []

    def take(self, batch: pa.RecordBatch) -> None:
        """Read a batch of messages."""
        records = []
        for message in batch.to_pylist():
            self.counts["read"] += 1
            line = message.pop("value") or b""
            if not line.strip():  # `forget` blanks lines
                self.counts["blank"] += 1
                continue
            record, reason = lines.read(line)
            if record and lines.is_forgotten(record, self.forgotten):
                self.counts["forgotten"] += 1
            elif reason:
                self.reasons[reason] += 1
                session = record.session if record else None
                self.rejected.append({**message, "reason": reason, "line": line, "session": session})
            else:
                records.append(record)
        if records:
            table = lines.table(records)
            self.tables.append(table.append_column("hour", pa.array([hour(record.at) for record in records])))

    def write(self) -> dict:
        """Write what is new into its hours. Return the counts."""
        if self.tables:
            table = self._new(pa.concat_tables(self.tables))
            for each in pc.unique(table["hour"]).to_pylist():
                part = table.filter(pc.equal(table["hour"], each)).drop_columns("hour")
                self.store.write_table(f"{self.store.events}/{each}/{self.name}", part)
            self.counts["written"] += len(table)
        for day in sorted({row["timestamp"].date() for row in self.rejected}):
            part = [row for row in self.rejected if row["timestamp"].date() == day]
            path = self.store.path("rejected", f"dt={day}", self.name)
            self.store.write_table(path, pa.Table.from_pylist(part, REJECTED))
        return {**self.counts, "rejected": json.dumps(self.reasons)}

    def _new(self, table: pa.Table) -> pa.Table:
        """Return the events that the lake does not have, an id once."""
        first = pa.table({"id": table["id"], "row": range(len(table))}).group_by("id").aggregate([("row", "min")])
        known = self._known(table)
        new = first.filter(pc.invert(pc.is_in(first["id"], known))) if len(known) else first
        self.counts["doubled"] += len(table) - len(new)
        return table.take(new["row_min"])

    def _known(self, table: pa.Table) -> pa.Array:
        """Return the ids that the lake has in the hours of the events, of their receipt, and an hour before."""
        received = [pc.min_max(table["received"])[end].as_py() for end in ("min", "max")]
        hours = set(pc.unique(table["hour"]).to_pylist())
        hours |= {hour(at - ago) for at in received for ago in (timedelta(), timedelta(hours=1))}
        chunks = []
        for each in sorted(hours):
            for info in self.store.parquet(f"{self.store.events}/{each}"):
                if info.base_name != self.name and not info.base_name.endswith(self.others):
                    chunks += _ids(self.place, info.path).chunks
        return pa.chunked_array(chunks, pa.string()).combine_chunks()
