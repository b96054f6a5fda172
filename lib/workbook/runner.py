"""The runner: notebooks 01 to 05 through papermill, with one set of parameters.

A notebook runs again only if its text, parameters, code or input files changed since the last run.
"""

import hashlib
import io
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path

import nbformat
import papermill
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from tqdm.auto import tqdm
from traitlets.config import Config

from lib.core import paths, runs
from lib.core.errors import WorkbookError
from lib.core.files import fingerprint, read_json, write_json
from lib.core.kernels import OwnKernel
from lib.core.paths import ROOT, resolve, shown
from lib.core.processes import only_one
from lib.core.progress import LINES, MARK
from lib.workbook import report
from lib.workbook.parameters import FILES, declared, filled

START_LIMIT = 60  # seconds for a kernel to start
logging.getLogger("papermill").addHandler(logging.NullHandler())  # the runner says in one line what it would log


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
            status = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
            record |= {"status": status, "error": str(error) or type(error).__name__}
            for stage in _running(record["stages"]):
                stage |= {"status": status, "error": str(error) or "stopped"}
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
    outside = [own.get(name) for name in ("base_model", *FILES)] + own.get("others", [])
    given = [resolve(str(name)) for name in outside if name]
    music = [resolve(own["catalogue"])] if own.get("catalogue") and resolve(own["catalogue"]).is_dir() else []
    files = [
        *runs.STAGES[notebook].files(),
        ROOT / "constraints.txt",
        *(folder / name for name in runs.STAGES[notebook].reads),
        *(path / "model" if (path / "model").is_dir() else path for path in given),  # only the encoder of another run
    ]
    parts = [code, json.dumps(own, sort_keys=True), *(_listing(f) if f in music else _fingerprint(f) for f in files)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def revision() -> str:
    """Return the commit, with "+" where files differ from it; "unknown" outside a checkout or without git."""
    if not shutil.which("git"):
        return "unknown"
    command = ["git", "-C", str(ROOT), "status", "--porcelain=v2", "--branch"]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    differs = any(not line.startswith("#") for line in lines)
    return lines[0].split()[-1] + "+" * differs if lines else "unknown"


class _Cells(tqdm):
    """A bar of a notebook's cells with the current section. Its clock moves during a long cell, too."""

    section = place = ""  # the current heading; the current cell, for a message

    def __init__(self, notebook: Path, title: str) -> None:
        total = len(nbformat.read(notebook, 4).cells)
        super().__init__(total=total, desc=title, unit="cell", disable=not sys.stderr.isatty(), dynamic_ncols=True)
        threading.Thread(target=self._tick, daemon=True).start()

    def start(self, cell, cell_index: int) -> None:
        """Show a cell that starts."""
        if cell.cell_type == "markdown" and cell.source.startswith("#"):
            self.section = cell.source.lstrip("# ").splitlines()[0]
        self.n, self.place = cell_index, f", cell {cell_index + 1} ({self.section})"
        self.set_postfix_str(self.section)

    def _tick(self) -> None:
        while not self.disable:  # a closed bar is disabled
            self.refresh()
            time.sleep(1)


class _Messages(io.StringIO):
    """A file for the cells' output: it passes warnings and progress lines on to the terminal as they come."""

    def write(self, text: str) -> None:
        for line in text.splitlines():
            if line.startswith(("WARNING", MARK)):
                tqdm.write(line, file=sys.stderr)  # above the bar


def _bring_up_to_date(folder: Path, notebook: str, values: dict, record: dict, title: str) -> None:
    stages, key = record["stages"], stage_key(folder, notebook, values)
    before = stages.get(notebook, {})
    if before.get("key") == key and before.get("outputs") == _outputs(folder, notebook):
        print(f"{title}: up to date", flush=True)
        return
    stages[notebook] = {"status": "running", "started": _now()}
    write_json(folder / "run.json", record)
    started, log = time.monotonic(), not sys.stderr.isatty()
    if log:  # it shows no bar: print when a notebook starts and ends, and a line a minute of its long work
        print(f"{title} …", flush=True)
        os.environ[LINES] = "1"
    execute(folder, notebook, values, title)
    seconds = round(time.monotonic() - started, 1)
    if log:
        print(f"{title}: {seconds:.0f} s", flush=True)
    stages[notebook] |= {"status": "done", "key": key, "seconds": seconds, "outputs": _outputs(folder, notebook)}
    write_json(folder / "run.json", record)


def execute(folder: Path, notebook: str, values: dict, title: str) -> None:
    """Run one notebook with all its parameters into `folder`. An unfinished one stays as NOTEBOOK.partial.ipynb."""
    source, partial = paths.NOTEBOOKS / f"{notebook}.ipynb", folder / f"{notebook}.partial.ipynb"
    with _Cells(source, title) as bar, tempfile.NamedTemporaryFile("r", errors="replace") as errors:
        try:
            nbformat.write(filled(notebook, values), partial)
            papermill.execute_notebook(
                str(partial),
                str(partial),
                kernel_name=NATIVE_KERNEL_NAME,
                kernel_manager_class=OwnKernel,
                config=Config(OwnKernel={"errors": errors.name}),
                start_timeout=START_LIMIT,
                extra_arguments=["--log-level=CRITICAL"],  # the notebook holds what a cell raises
                on_cell_start=bar.start,
                stdout_file=_Messages(),
                progress_bar=False,
                cwd=paths.NOTEBOOKS,
            )
            bar.update()
        except (PapermillExecutionError, RuntimeError, OSError) as error:
            if isinstance(error, RuntimeError) and not bar.place:
                raise WorkbookError(f"{notebook}: {_not_started(error, errors.read())}") from error
            sys.stderr.write(errors.read())
            raise WorkbookError(f"{notebook}{bar.place}: {_cause(error)} (read {shown(partial)})") from error
    partial.replace(folder / f"{notebook}.ipynb")


def _not_started(error: RuntimeError, printed: str) -> str:
    reason = f"{error}: {printed.splitlines()[-1]}" if printed and "died" in str(error) else str(error)
    return (
        f"the kernel of {sys.executable} did not start: {reason}. "
        "Run again if this machine is busy or short of memory; else install it again: make clean, then make run."
    )


def _cause(error: Exception) -> str:
    if isinstance(error, PapermillExecutionError):
        return f"{error.ename}: {error.evalue}"
    return "the kernel died (out of memory, or killed)" if isinstance(error, DeadKernelError) else str(error)


def _record(folder: Path, values: dict, parameter_file: str, fresh: bool) -> dict:
    """Write run.json for the start: finished stages are kept, one that was running counts as interrupted."""
    stages, file = {}, folder / "run.json"
    try:
        if file.exists() and not fresh:
            stages = read_json(file)["stages"]
        for stage in _running(stages):
            stage["status"] = "interrupted"
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise WorkbookError(f"{shown(file)} is damaged: {error}. Make all again: make run FRESH=1") from error
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


def _running(stages: dict[str, dict]) -> list[dict]:
    return [stage for stage in stages.values() if stage["status"] == "running"]


def _outputs(folder: Path, notebook: str) -> dict[str, str]:
    return {name: _fingerprint(folder / name) for name in (*runs.STAGES[notebook].writes, f"{notebook}.ipynb")}


def _listing(music: Path) -> str:
    """Return the names, sizes and times of a folder's files: to read all of someone's music would take hours."""
    files = sorted(path for path in music.rglob("*") if path.is_file())
    return "\n".join(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files)


def _fingerprint(path: Path) -> str:
    return fingerprint(path) if path.exists() else "missing"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
