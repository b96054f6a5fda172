"""Execute the notebooks with their own parameters and keep their outputs, for readers on the web and for nbval.

python tests/refresh_notebooks.py [notebooks/03_finetune.ipynb …]

All of them start from an empty outputs/tour. Outputs that differ from run to run are not kept: progress bars, warnings
on stderr, and all outputs of a cell tagged `live` (timings, a page to click). Read the diff.
"""

import base64
import io
import os
import shutil
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

from lib.core.paths import NOTEBOOKS, ROOT

LARGEST = 100_000  # characters of HTML: a page to click is larger, and GitHub shows none
WIDGET = "application/vnd.jupyter.widget-view+json"


def small(png: str) -> str:
    """Return a picture with at most 256 colours: plots have few, and a notebook stays small."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    out = io.BytesIO()
    picture.quantize(256, dither=Image.Dither.NONE).save(out, "png", optimize=True)
    return base64.b64encode(out.getvalue()).decode()


def keep(cell) -> None:
    """Drop the outputs that differ from run to run, and shrink pictures."""
    cell.metadata.pop("execution", None)
    kept = []
    for output in cell.outputs if "live" not in cell.metadata.get("tags", []) else ():
        data = output.get("data", {})
        if output.get("name") == "stderr" or WIDGET in data or len("".join(data.get("text/html", ""))) > LARGEST:
            continue
        if "image/png" in data:
            data["image/png"] = small(data["image/png"])
            data.pop("text/plain", None)  # <Figure size …>
        kept.append(output)
    cell.outputs = kept


def refresh(file: Path) -> None:
    """Execute a notebook and write it back with its outputs."""
    notebook = nbformat.read(file, 4)
    quiet = {"timeout": 1200, "extra_arguments": ["--log-level=CRITICAL"]}
    NotebookClient(notebook, resources={"metadata": {"path": str(file.parent)}}, **quiet).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            keep(cell)
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}
    nbformat.write(notebook, file)
    print(f"{file.name}: {file.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    os.environ["WORKBOOK_RUN"] = "outputs/tour"
    files = [Path(name).resolve() for name in sys.argv[1:]] or sorted(NOTEBOOKS.glob("*.ipynb"))
    if not sys.argv[1:]:
        shutil.rmtree(ROOT / "outputs" / "tour", ignore_errors=True)
    for file in files:
        refresh(file)
