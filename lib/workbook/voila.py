"""Notebook 06 as a page of its own, in Voilà."""

import os
import tempfile
from pathlib import Path

import papermill
from traitlets.config import Config
from voila.app import Voila

from lib.core.kernels import OwnPython
from lib.core.paths import NOTEBOOKS, absolute
from lib.core.runs import need

TEMPLATES = Path(__file__).with_name("jupyter")
# The page leaves out the cells that explain files and code. A kernel ends soon after its page is closed. One that died
# is not replaced: the new kernel would know nothing of the page.
OPTIONS = (
    "--template=playground",
    "--KernelRestarter.restart_limit=0",
    "--TagRemovePreprocessor.remove_cell_tags=not-in-voila",
    "--MappingKernelManager.cull_idle_timeout=10",
    "--MappingKernelManager.cull_interval=2",
)


def open_playground(run: str, options: list[str]) -> None:
    """Serve notebook 06 as a page until Ctrl-C.

    Args:
        run: the run's folder.
        options: Voilà's own options, such as "--port=8900".

    Raises:
        WorkbookError: the run has no model or no index.
    """
    folder = absolute(run)  # a link stays a link, so new pages show the run that is promoted then
    need(folder, "model", "index")
    with tempfile.TemporaryDirectory() as temporary:
        notebook = f"{temporary}/playground.ipynb"
        source = str(NOTEBOOKS / "06_playground.ipynb")
        papermill.execute_notebook(source, notebook, {"run_dir": str(folder)}, prepare_only=True)
        os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, (str(TEMPLATES), os.environ.get("JUPYTER_PATH"))))
        kernels = Config(VoilaConfiguration={"kernel_spec_manager_class": OwnPython})
        Voila.launch_instance([*OPTIONS, *options, notebook], config=kernels)
