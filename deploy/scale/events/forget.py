"""Forget a session: remove its events from the log, the lake and the features.

    python -m deploy.scale.events.forget SESSION

Its events that are on their way, in the broker, do not reach the lake: the job knows the session's hash, and drops what
was received before. In the broker's own files they stay until their time is over (TOPIC_HOURS in tidy.py).

Settings, as environment variables: EVENTS, LAKE, S3, FEATURES.
"""

import json
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deploy.scale.events.store import Damaged, Store, code, open_store


def mark(store: Store, session: str) -> None:
    """Have the lake's job drop the session's events from now on."""
    store.write(store.path("forgotten", code(session)), b"forgotten")


def blank(folder: Path, session: str) -> int:
    """Overwrite the session's lines of the log with spaces, in place: the shipper's places stay right.

    Return the number of lines.
    """
    name, lines = re.compile(rb'"session" ?: ?' + re.escape(json.dumps(session).encode())), 0
    for path in folder.glob("*.jsonl"):
        with path.open("r+b") as file:
            place = 0
            for line in file:
                if name.search(line):
                    text = line.rstrip(b"\n")
                    os.pwrite(file.fileno(), b" " * len(text), place)
                    lines += 1
                place += len(line)
            os.fsync(file.fileno())
    return lines


def clean(store: Store, before: dict[str, datetime], session: str = "", since: datetime | None = None) -> int:
    """Write the lake's files without some sessions, under the same names. Return the number of rows removed.

    Args:
        before: by the hash of each session, the time up to which what was received of it is removed.
        session: a session whose name is removed from lines that are no events, too.
        since: files that are older are left.
    """
    removed = 0
    for info in store.parquet(store.events) + store.parquet(store.path("rejected")):
        if since and info.mtime < since:
            continue
        try:
            table = store.table(info.path)
        except Damaged as error:
            print(f"{error}; it stays", file=sys.stderr, flush=True)
            continue
        times = table["received" if "received" in table.column_names else "timestamp"]
        gone = pa.chunked_array([np.zeros(len(table), bool)])
        for name in pc.unique(table["session"]).to_pylist():
            if name and (end := before.get(code(name))):
                its = pc.and_(pc.equal(table["session"], name), pc.less_equal(times, pa.scalar(end, times.type)))
                gone = pc.or_(gone, pc.fill_null(its, False))
        if session and "line" in table.column_names:
            gone = pc.or_(gone, pc.match_substring(table["line"], session.encode()))
        if n := pc.sum(gone).as_py():
            store.write_table(info.path, table.filter(pc.invert(gone)))
            removed += n
    return removed


def features(address: str, session: str) -> int:
    """Remove the session from the features, and from Redis' own log. Return the number of keys."""
    from redis import Redis  # the lake's job, which imports this module, has no Redis

    redis = Redis.from_url(address)
    removed = redis.delete(f"session:{session}")
    redis.bgrewriteaof()
    return removed


def main(session: str) -> None:
    """Forget a session everywhere, and print what was removed."""
    store = open_store(os.environ["LAKE"])
    mark(store, session)
    lines = blank(Path(os.environ["EVENTS"]), session)
    keys = features(os.environ["FEATURES"], session) if os.environ.get("FEATURES") else 0
    rows = clean(store, {code(session): datetime.now(UTC)}, session)
    print(f"forgotten: {lines} lines of the log, {rows} rows of the lake, {keys} keys of the features")
    print(f"The broker's files keep its messages for up to {os.environ.get('TOPIC_HOURS', '1')} h more.")


if __name__ == "__main__":
    main(sys.argv[1])
