"""Hooks for Schemathesis: what it must know beyond openapi.json to generate valid requests.

SCHEMATHESIS_HOOKS=tests/serve/schema_hooks.py TRACKS=outputs/quick/tracks.parquet schemathesis run …/openapi.json
"""

import os

import pandas as pd
import schemathesis
from hypothesis import strategies as st

IDS = pd.read_parquet(os.environ["TRACKS"])["id"].tolist()
schemathesis.openapi.format("track-id", st.sampled_from(IDS))


@schemathesis.hook
def filter_body(_context, body) -> bool:
    """Leave out counts such as 3.0. JSON Schema takes them for integers, the service refuses them."""
    counts = [body.get(name) for name in ("top_k", "num_recommendations")] if isinstance(body, dict) else []
    return not any(isinstance(count, float) and count.is_integer() for count in counts)
