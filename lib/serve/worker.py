"""The imports of a kernel. Kernels are forked from a process that has imported this module.

So a new kernel serves within a second; its imports alone would take seven. All kernels share the code in memory.
"""

from lib.core import runs
from lib.search import recommender
from lib.serve import cells, contract, openapi

__all__ = ["cells", "contract", "openapi", "recommender", "runs"]
