"""The lines of the log: which are events of the lake, and which are not."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import pyarrow as pa
from pydantic import ValidationError

from deploy.scale.events.schema import Record
from deploy.scale.events.store import code
from lib.feedback.lake import SCHEMA

LATE = timedelta(hours=24)  # from an event's time to its receipt
AHEAD = timedelta(minutes=5)  # that a client's clock may be ahead


def read(line: bytes) -> tuple[Record | None, str]:
    """Return a line's event, and the reason if it does not belong into the lake: broken, invalid, late or future."""
    try:
        record = Record.model_validate_json(line)
    except ValidationError as error:
        return None, "broken" if error.errors()[0]["type"] == "json_invalid" else "invalid"
    age = record.received - record.at
    return record, "late" if age > LATE else "future" if age < -AHEAD else ""


def is_forgotten(record: Record, forgotten: dict[str, datetime]) -> bool:
    """Return True if a record's session was forgotten after its receipt. `forgotten` has the times by `store.code`."""
    at = forgotten and record.session and forgotten.get(code(record.session))
    return bool(at) and record.received <= at


def table(records: Iterable[Record]) -> pa.Table:
    """Return events as a table of the lake."""
    rows = [record.model_dump() for record in records]
    for row in rows:
        row["parts"] = row["parts"] and list(row["parts"].items())
    return pa.Table.from_pylist(rows, SCHEMA)
