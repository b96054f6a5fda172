"""The functions behind the notebooks. Imports run one way: runs ← moods ← tracks ← queries ← … ← workbook."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # where JAX is installed bm25s starts it, which takes 75 % of a GPU
