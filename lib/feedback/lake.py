"""The lake of events: hourly Parquet files, dt=2026-11-30/hour=09, in a folder or on S3."""

import pyarrow as pa

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
