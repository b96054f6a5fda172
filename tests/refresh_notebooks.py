"""Execute the notebooks as they are and keep only the outputs that nbval compares (cells tagged nbval-check-output).

python tests/refresh_notebooks.py        after a change that is meant to change them; read the diff
"""

import nbformat
from nbclient import NotebookClient

from lib.core.paths import ROOT

for file in sorted((ROOT / "notebooks").glob("*.ipynb")):
    print(file.name, flush=True)
    notebook = nbformat.read(file, 4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(file.parent)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code" and "nbval-check-output" not in cell.metadata.get("tags", []):
            cell.outputs, cell.execution_count = [], None
    notebook.metadata = {key: notebook.metadata[key] for key in ("kernelspec",)} | {"language_info": {"name": "python"}}
    nbformat.write(notebook, file)
