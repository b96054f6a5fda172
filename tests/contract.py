"""What Schemathesis must know beyond openapi.json to make valid requests: which track ids there are.

SCHEMATHESIS_HOOKS=tests/contract.py TRACKS=outputs/quick/tracks.parquet schemathesis run …/openapi.json
"""

import os

import pandas as pd
import schemathesis
from hypothesis import strategies as st

IDS = pd.read_parquet(os.environ["TRACKS"])["id"].tolist()
schemathesis.openapi.format("track-id", st.sampled_from(IDS))


@schemathesis.hook
def filter_body(_context, body) -> bool:
    """Not 3.0 for a count: to JSON Schema that is an integer, to us it is none. No schema can say so."""
    counts = [body.get(name) for name in ("top_k", "num_recommendations")] if isinstance(body, dict) else []
    return not any(isinstance(count, float) and count.is_integer() for count in counts)
