"""A run's folder: the only thing that notebooks share. Paths, whole-or-nothing writes, fingerprints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from lib.core.errors import WorkbookError, disk_advice
from lib.core.paths import NOTEBOOKS, ROOT, resolve, shown


class Stage(NamedTuple):
    """What a notebook reads from and writes to the run's folder, and the folders of lib that its result depends on."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    code: tuple[str, ...]

    def files(self) -> list[Path]:
        """The files of its code. Where a model is made, pictures do not count: a new colour must not train it again."""
        files = sorted(file for folder in self.code for file in (ROOT / "lib" / folder).rglob("*") if file.is_file())
        kinds = {".py", ".yaml", ".csv"}
        drawn = {"pictures.py", "style.py"} if "model" in self.writes else set()
        return [file for file in files if file.suffix in kinds and file.name not in drawn]


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
    """The run's folder, made if it is missing.

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
    """The run's folder for a notebook that reads the files `names`; notebooks that make missing ones are run first.

    A folder in which nothing is missing need not be writable: it can be served from a read-only disk.

    So any notebook can be opened and run by itself. The earlier notebooks run with their own defaults.
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
    """Check that earlier notebooks left the files `names` in the folder `run`.

    Raises:
        WorkbookError: one is missing; names the notebook that makes it.
    """
    for name in names:
        if not (run / name).exists():
            raise WorkbookError(f"{shown(run)} has no {name}. {_maker(name)} makes it: run that first, or make run.")


def _maker(name: str) -> str:
    return next(notebook for notebook, stage in STAGES.items() if name in stage.writes)
