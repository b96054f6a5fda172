"""The code behind the notebooks: a room for each notebook, and `core`, `search`, `workbook` for what they share.

README.md beside this file is the map. Imports run one way, down the floors that tests/test_house.py lists.
"""

import os
import sys

import numpy  # noqa: F401  loads the OpenBLAS that threadpool_info looks at
from threadpoolctl import threadpool_info

# ONNX Runtime would send usage data to its vendor.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # bm25s starts JAX if it is installed, and JAX takes 75 % of a GPU
# jsonschema would build a parser of international addresses at each start: 1.3 seconds. No notebook has such a field.
sys.modules.setdefault("rfc3987_syntax", None)
# PyTorch's threads wait for each other in a loop. Where another program uses the same cores that makes training ten
# times slower: two trainings on two cores took 5.9 s a step, and 1.2 s with a shorter loop; alone, 0.57 and 0.60 s.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")

# FAISS's wheel has an OpenBLAS of 2021. It takes a newer processor for one of 2004 and builds lists four times as
# slowly. NumPy's OpenBLAS knows the processor; the old one may need its predecessor's name.
OLDER_NAME = {"SapphireRapids": "SkylakeX", "Cooperlake": "SkylakeX"}
for pool in threadpool_info():
    if pool["internal_api"] == "openblas":
        os.environ.setdefault("OPENBLAS_CORETYPE", OLDER_NAME.get(pool["architecture"], pool["architecture"]))
