"""The functions behind the notebooks. Imports run one way: runs ← moods ← tracks ← queries ← … ← workbook."""

import os

import numpy  # noqa: F401  whose OpenBLAS is looked at
from threadpoolctl import threadpool_info

# ONNX Runtime sends what it is used for to its makers, from a thread of its own; none of it is anybody's business.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # where JAX is installed bm25s starts it, which takes 75 % of a GPU

# The OpenBLAS in FAISS's wheel is of 2021: a processor that it does not know it takes for one of 2004, and makes lists
# four times as slowly. NumPy's knows the processor, by a name that the old one may not know.
SINCE = {"SapphireRapids": "SkylakeX", "Cooperlake": "SkylakeX"}
for found in threadpool_info():
    if found["internal_api"] == "openblas":
        os.environ.setdefault("OPENBLAS_CORETYPE", SINCE.get(found["architecture"], found["architecture"]))
