"""A run's folder, the only thing that notebooks share, and the stages that fill it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import yaml

from lib.core.errors import WorkbookError, disk_advice
from lib.core.paths import NOTEBOOKS, ROOT, resolve, shown


class Stage(NamedTuple):
    """A notebook's files in the run's folder, and the folders of lib that its results depend on."""

    reads: list[str]
    writes: list[str]
    code: list[str]

    def files(self) -> list[Path]:
        """Return the files of its code; without pictures where a model is trained: a new colour needs no training."""
        drawing = {"pictures.py", "style.py"} if "model" in self.writes else set()
        files = sorted(file for folder in self.code for file in (ROOT / "lib" / folder).rglob("*"))
        return [file for file in files if file.suffix in (".py", ".yaml", ".csv") and file.name not in drawing]


SOURCES = ("benchmarks", "deploy", "docs", "lib", "notebooks", "params", "tests")  # no run may write into them
_stages = yaml.safe_load(Path(__file__).with_name("stages.yaml").read_text(encoding="utf-8"))
STAGES = {notebook: Stage(**stage) for notebook, stage in _stages.items()}  # in order


def folder(run_dir: str | Path) -> Path:
    """Return the run's folder, made if it is missing; raise WorkbookError if it cannot be made or written."""
    path = resolve(run_dir)
    if ROOT.is_relative_to(path) or any(path.is_relative_to(ROOT / name) for name in SOURCES):
        raise WorkbookError(f"{path} is the workbook's own. Name another folder for the run: run_dir=outputs/mine")
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / ".write-test").touch()
        (path / ".write-test").unlink()
    except OSError as error:
        raise WorkbookError(f"cannot write to {path}: {error.strerror}. {disk_advice(error)}") from error
    return path


def start(run_dir: str | Path, *names: str) -> Path:
    """Return the run's folder for a notebook that reads the files `names`.

    Earlier notebooks run first, with their own defaults, if a file is missing: any notebook works by itself. A folder
    in which no file is missing need not be writable: a service can read it from a read-only disk.
    """
    run = resolve(run_dir)
    for name in names:
        if not (run / name).exists():
            folder(run)
            maker = _maker(name)
            print(f"{shown(run)} has no {name}: running {maker} first …", flush=True)
            notebook, out = NOTEBOOKS / f"{maker}.ipynb", run / f"{maker}.ipynb"
            command = [sys.executable, "-m", "papermill", "--no-progress-bar", "--cwd", str(notebook.parent)]
            own = {name: value for name, value in os.environ.items() if name != "JUPYTER_PATH"}  # this Python's kernel
            subprocess.run([*command, "-p", "run_dir", str(run), str(notebook), str(out)], check=True, env=own)
    need(run, *names)
    return run if names else folder(run)


def need(run: Path, *names: str) -> None:
    """Raise WorkbookError if the run's folder lacks one of the files `names`; the message names its notebook."""
    for name in names:
        if not (run / name).exists():
            raise WorkbookError(f"{shown(run)} has no {name}. {_maker(name)} makes it: run that first, or make run.")


def _maker(name: str) -> str:
    return next(notebook for notebook, stage in STAGES.items() if name in stage.writes)
