"""Notebooks executed in the process of the tests, which has imported their packages already and compiled UMAP."""

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from traitlets.config import Config

from lib.core import paths


def execute(name: str, **parameters) -> str:
    """Run a notebook's cells with parameters; return all text that they print or display. Raise what a cell raises."""
    notebook = parameterize_notebook(load_notebook_node(str(paths.NOTEBOOKS / f"{name}.ipynb")), parameters)
    shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    try:
        with capture_output() as captured:
            for cell in notebook.cells:
                if cell.cell_type == "code":
                    shell.run_cell(cell.source).raise_error()
    finally:
        InteractiveShell.clear_instance()
    return "\n".join([captured.stdout, *(output.data.get("text/markdown", "") for output in captured.outputs)])
