"""The functions behind the notebooks. Imports run one way: runs ← moods ← tracks ← queries ← … ← workbook."""

import os

# ONNX Runtime sends what it is used for to its makers, from a thread of its own; none of it is anybody's business.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # where JAX is installed bm25s starts it, which takes 75 % of a GPU
