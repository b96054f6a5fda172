"""The runner: notebooks 01 to 05 through papermill, with one set of parameters.

A notebook runs again only if its text, parameters, code or input files changed since the last run.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from tqdm.auto import tqdm

from lib.core import paths, runs
from lib.core.errors import WorkbookError
from lib.core.files import fingerprint, read_json, write_json
from lib.core.paths import ROOT, resolve, shown
from lib.core.processes import only_one
from lib.core.progress import LINES, MARK
from lib.workbook import report
from lib.workbook.parameters import declared


def run(values: dict, parameter_file: str, fresh: bool = False) -> dict:
    """Run every stage that is not up to date, in order; run.json shows the state at each moment.

    Args:
        values: all parameters, from `parameters.read`.
        parameter_file: the file's name, for the record.
        fresh: run the stages that are up to date, too.

    Returns:
        The contents of run.json.

    Raises:
        WorkbookError: a notebook failed, or another process works in the folder.
        KeyboardInterrupt: Ctrl-C or SIGTERM.
    """
    folder = runs.folder(values["run_dir"])
    with only_one(folder):
        record = _record(folder, values, parameter_file, fresh)
        try:
            for number, notebook in enumerate(runs.STAGES, 1):
                _bring_up_to_date(folder, notebook, values, record, f"[{number}/{len(runs.STAGES)}] {notebook}")
            report.write(folder, record)
            record["status"] = "done"
        except BaseException as error:
            record["status"] = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
            record["error"] = str(error) or type(error).__name__
            raise
        finally:
            record["finished"] = _now()
            record.pop("pid")
            write_json(folder / "run.json", record)
    return record


def stage_key(folder: Path, notebook: str, values: dict) -> str:
    """Return one SHA-256 of all that a stage's result depends on: notebook, parameters, code, input files."""
    cells = nbformat.read(paths.NOTEBOOKS / f"{notebook}.ipynb", 4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    own = {name: values[name] for name in declared(notebook)}
    outside = [own.get(name) for name in ("catalogue", "base_model", "benchmark", "musiccaps")] + own.get("others", [])
    files = [
        *runs.STAGES[notebook].files(),
        ROOT / "constraints.txt",
        *(folder / name for name in runs.STAGES[notebook].reads),
        *(_encoder_of(resolve(str(name))) for name in outside if name),
    ]
    parts = [code, json.dumps(own, sort_keys=True), *map(_fingerprint, files)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def revision() -> str:
    """Return the commit, with "+" where files differ from it; "unknown" outside a checkout or without git."""
    if not shutil.which("git"):
        return "unknown"
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=False).stdout.strip()
    return (commit + ("+" if dirty else "")) if commit else "unknown"


class _NamedCells(NBClientEngine):
    """Papermill's engine, with the current section's heading on the progress bar."""

    current = ("", 0)  # the current cell's heading and number, for the message of a failure

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, **kwargs):
        start, cells = nb_man.cell_start, nb_man.nb.cells
        done = threading.Event()

        def cell_start(cell, cell_index=None, **more):
            headings = [
                c.source.lstrip("# ").splitlines()[0]
                for c in cells[: cell_index + 1]
                if c.source.startswith("#") and c.cell_type == "markdown"
            ]
            cls.current = (headings[-1] if headings else "", cell_index + 1)
            nb_man.pbar.set_postfix_str(cls.current[0])
            start(cell, cell_index, **more)

        def tick():  # the bar's clock moves during a long cell, too
            while not done.wait(1) and nb_man.pbar is not None:
                nb_man.pbar.refresh()

        nb_man.cell_start = cell_start
        threading.Thread(target=tick, daemon=True).start()
        try:
            quiet = ["--log-level=CRITICAL"]  # the notebook holds what a cell raises
            return super().execute_managed_notebook(nb_man, kernel_name, extra_arguments=quiet, **kwargs)
        finally:
            done.set()


papermill_engines.register("workbook", _NamedCells)


class _Messages:
    """A file for the cells' output: it passes warnings and progress lines on to the terminal as they come."""

    def write(self, text: str) -> None:
        for line in text.splitlines():
            if line.startswith(("WARNING", MARK)):
                tqdm.write(line, file=sys.stderr)  # above the bar

    def flush(self) -> None:
        sys.stderr.flush()


def _bring_up_to_date(folder: Path, notebook: str, values: dict, record: dict, title: str) -> None:
    stages = record["stages"]
    key = stage_key(folder, notebook, values)
    outputs = {name: folder / name for name in (*runs.STAGES[notebook].writes, f"{notebook}.ipynb")}
    before = stages.get(notebook, {})
    if before.get("key") == key and before.get("outputs") == _fingerprints(outputs):
        print(f"{title}: up to date", flush=True)
        return
    stages[notebook] = {"status": "running", "started": _now()}
    write_json(folder / "run.json", record)
    started = time.monotonic()
    try:
        _execute(folder, notebook, values, title)
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        stages[notebook] |= {"status": "stopped" if stopped else "failed", "error": str(error) or "stopped"}
        raise
    seconds = round(time.monotonic() - started, 1)
    if not sys.stderr.isatty():
        print(f"{title}: {seconds:.0f} s", flush=True)
    stages[notebook] |= {"status": "done", "key": key, "seconds": seconds, "outputs": _fingerprints(outputs)}
    write_json(folder / "run.json", record)


def _execute(folder: Path, notebook: str, values: dict, title: str) -> None:
    """Run one notebook. An unfinished one stays as NOTEBOOK.partial.ipynb."""
    partial = folder / f"{notebook}.partial.ipynb"
    terminal = sys.stderr.isatty()
    if not terminal:  # a log shows no bar: print when a notebook starts, and a line a minute of its long work
        print(f"{title} …", flush=True)
        os.environ[LINES] = "1"
    try:
        papermill.execute_notebook(
            str(paths.NOTEBOOKS / f"{notebook}.ipynb"),
            str(partial),
            {name: values[name] for name in declared(notebook)},
            engine_name="workbook",
            progress_bar={"desc": title, "disable": not terminal, "dynamic_ncols": True},
            stdout_file=_Messages(),
            cwd=str(paths.NOTEBOOKS),
        )
    except (PapermillExecutionError, DeadKernelError, OSError) as error:
        heading, cell = _NamedCells.current
        raise WorkbookError(f"{notebook}, cell {cell} ({heading}): {_cause(error)} (read {shown(partial)})") from error
    partial.replace(folder / f"{notebook}.ipynb")


def _cause(error: Exception) -> str:
    if isinstance(error, PapermillExecutionError):
        return f"{error.ename}: {error.evalue}"
    return "the kernel died (out of memory, or killed)" if isinstance(error, DeadKernelError) else str(error)


def _record(folder: Path, values: dict, parameter_file: str, fresh: bool) -> dict:
    """Write run.json for the start: finished stages are kept, one that was running counts as interrupted."""
    before = read_json(folder / "run.json") if (folder / "run.json").exists() else {}
    stages = {} if fresh else before.get("stages", {})
    for stage in stages.values():
        if stage["status"] == "running":
            stage["status"] = "interrupted"
    record = {
        "status": "running",
        "pid": os.getpid(),
        "started": _now(),
        "parameter_file": parameter_file,
        "parameters": values,
        "code": revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "stages": stages,
        "packages": {d.name: d.version for d in sorted(distributions(), key=lambda d: d.name.lower())},
    }
    write_json(folder / "run.json", record)
    return record


def _encoder_of(path: Path) -> Path:
    """Return the encoder's folder where `path` is a run: only that is read of another run."""
    return path / "model" if (path / "model").is_dir() else path


def _fingerprint(path: Path) -> str:
    return fingerprint(path) if path.exists() else "missing"


def _fingerprints(files: dict[str, Path]) -> dict[str, str]:
    return {name: _fingerprint(path) for name, path in files.items()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
