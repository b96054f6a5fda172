"""A run's folder, the only thing that notebooks share, and the stages that fill it."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import yaml

from lib.core.errors import WorkbookError, disk_advice
from lib.core.files import read_json
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


NAMED = "WORKBOOK_RUN"  # an environment variable: the run of notebooks whose run_dir is empty
TOUR = "outputs/tour"
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


def find(run_dir: str | Path) -> Path:
    """Return a run's folder. Without a name: outputs/current, else the newest finished run, else the tour."""
    if name := run_dir or os.environ.get(NAMED):
        return resolve(name)
    if (current := resolve("outputs/current")).exists():
        return current
    records = resolve("outputs").glob("*/run.json")
    finished = [file for file in records if '\n  "status": "done"' in file.read_text(encoding="utf-8")]
    newest = max(finished, key=lambda file: file.stat().st_mtime, default=resolve(TOUR) / "run.json")
    return newest.parent


def start(run_dir: str | Path, *names: str) -> Path:
    """Return the run's folder for a notebook that reads the files `names`.

    Earlier notebooks run first, with their own defaults, if a file is missing: any notebook works by itself. A folder
    in which no file is missing need not be writable: a service can read it from a read-only disk.

    A run that is not named, but found, is finished: the notebook gets a folder of links to its files, so that what it
    writes replaces a link and not the run's file.
    """
    run = find(run_dir)
    if not (run_dir or os.environ.get(NAMED)) and run != resolve(TOUR):
        need(run, *names)
        print(f"{shown(run)} is finished: it is shown here and stays as it is. To make a run, name its folder: run_dir")
        return _links(run)
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
    if names:
        print(f"Run: {shown(run)}{', a small one: make run has better figures' if run == resolve(TOUR) else ''}")
    return run if names else folder(run)


def parameters(run: Path) -> dict:
    """Return the parameters that a run was made with, but for its folder; {} if no runner made it."""
    made = read_json(run / "run.json")["parameters"] if (run / "run.json").exists() else {}
    return {name: value for name, value in made.items() if name != "run_dir"}


def need(run: Path, *names: str) -> None:
    """Raise WorkbookError if the run's folder lacks one of the files `names`; the message names its notebook."""
    for name in names:
        if not run.exists():
            raise WorkbookError(f"there is no {shown(run)}. make run makes a run; RUN=... names one.")
        if not (run / name).exists():
            raise WorkbookError(f"{shown(run)} has no {name}. {_maker(name)} makes it: run that first, or make run.")


def _links(run: Path) -> Path:
    """Return a folder of links to a run's files, which lasts as long as this process."""
    links = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, links, ignore_errors=True)
    for file in run.iterdir():
        (links / file.name).symlink_to(file)
    return links


def _maker(name: str) -> str:
    return next(notebook for notebook, stage in STAGES.items() if name in stage.writes)
