"""A run's folder, the only thing that notebooks share, and the stages that fill it."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from lib.core.errors import WorkbookError, disk_advice
from lib.core.paths import NOTEBOOKS, ROOT, resolve, shown


class Stage(NamedTuple):
    """A notebook's files in the run's folder, and the folders of lib that its results depend on."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    code: tuple[str, ...]

    def files(self) -> list[Path]:
        """Return the files of its code; without pictures where a model is trained: a new colour needs no training."""
        drawing = {"pictures.py", "style.py"} if "model" in self.writes else set()
        files = sorted(file for folder in self.code for file in (ROOT / "lib" / folder).rglob("*"))
        return [file for file in files if file.suffix in (".py", ".yaml", ".csv") and file.name not in drawing]


# The batch notebooks, in order. Each notebook's header table says the same; a test compares them.
DATA = ("tracks.parquet", "requests.parquet")
STAGES = {
    "01_generate_tracks": Stage(
        (), ("tracks.parquet", "tracks.csv", "left_out.csv", "requests.parquet"), ("core", "tracks")
    ),
    "02_data_quality": Stage(DATA, ("quality.json", "failing_rows.csv"), ("core", "tracks", "quality")),
    "03_finetune": Stage(DATA, ("model", "encoders", "index"), ("core", "tracks", "search", "finetune")),
    "04_embedding_debug": Stage((*DATA, "model", "index"), ("embedding.json",), ("core", "tracks", "search", "debug")),
    "05_model_performance": Stage(
        (*DATA, "model", "encoders", "index"),
        ("metrics.json", "answers.parquet"),
        ("core", "tracks", "search", "performance"),
    ),
}


def folder(run_dir: str | Path) -> Path:
    """Return the run's folder; make it if it is missing.

    Raises:
        WorkbookError: the folder cannot be made or written.
    """
    path = resolve(run_dir)
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
        maker = _maker(name)
        if not (run / name).exists():
            folder(run)
            print(f"{shown(run)} has no {name}: running {maker} first …", flush=True)
            notebook, out = NOTEBOOKS / f"{maker}.ipynb", run / f"{maker}.ipynb"
            command = [sys.executable, "-m", "papermill", "--no-progress-bar", "--cwd", str(notebook.parent)]
            subprocess.run([*command, "-p", "run_dir", str(run), str(notebook), str(out)], check=True)
    need(run, *names)
    return run if names else folder(run)


def need(run: Path, *names: str) -> None:
    """Check that the run's folder has the files `names`.

    Raises:
        WorkbookError: a file is missing; the message names the notebook that makes it.
    """
    for name in names:
        if not (run / name).exists():
            raise WorkbookError(f"{shown(run)} has no {name}. {_maker(name)} makes it: run that first, or make run.")


def _maker(name: str) -> str:
    return next(notebook for notebook, stage in STAGES.items() if name in stage.writes)
