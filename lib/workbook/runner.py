"""Run the workbook: notebooks 01 to 05 through papermill, with one parameter file.

    python -m lib.workbook.runner params/quick.yaml --set epochs=2 batch_size=32

Only notebooks whose own text, parameters, code or input files changed since the last run are run again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from tqdm.auto import tqdm

from lib.core import paths, processes, runs
from lib.core.errors import WorkbookError
from lib.core.files import fingerprint, read_json, write_json
from lib.core.paths import ROOT, resolve, shown
from lib.core.runs import folder
from lib.workbook import parameters, report
from lib.workbook.parameters import declared


def run(values: dict, parameter_file: str, fresh: bool = False) -> dict:
    """Run every stage that is not up to date, in order, and keep run.json truthful throughout.

    Returns:
        The contents of run.json.

    Raises:
        WorkbookError: a notebook failed, or another process is at work in the folder.
        KeyboardInterrupt: Ctrl-C or SIGTERM.
    """
    where = folder(values["run_dir"])
    with processes.only_one(where):
        record = _record(where, values, parameter_file, fresh)
        try:
            for number, notebook in enumerate(runs.STAGES, 1):
                _bring_up_to_date(where, notebook, values, record, f"{number}/{len(runs.STAGES)}")
            report.write(where, record)
            record["status"] = "done"
        except BaseException as error:
            record["status"] = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
            record["error"] = str(error) or type(error).__name__
            raise
        finally:
            record["finished"] = _now()
            record.pop("pid")
            write_json(where / "run.json", record)
    return record


def stage_key(where: Path, notebook: str, values: dict) -> str:
    """What a stage's result depends on, as one SHA-256: notebook, parameters, code, input files."""
    cells = nbformat.read(paths.NOTEBOOKS / f"{notebook}.ipynb", 4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    own = {name: values[name] for name in declared(notebook)}
    outside = [own.get(name) for name in ("catalogue", "base_model", "benchmark", "musiccaps")] + own.get("others", [])
    external = [_encoder_of(resolve(str(name))) for name in outside if name]
    files = [
        *runs.STAGES[notebook].files(),
        ROOT / "constraints.txt",
        *(where / name for name in runs.STAGES[notebook].reads),
        *external,
    ]
    parts = [code, json.dumps(own, sort_keys=True), *(fingerprint(f) if f.exists() else "missing" for f in files)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _encoder_of(path: Path) -> Path:
    """Of another run's folder its encoder, which is what is read of it."""
    return path / "model" if (path / "model").is_dir() else path


def main(argv: list[str] | None = None) -> int:
    """The command line; 0 when the run is complete, 1 with one line on what stopped it."""
    parser = argparse.ArgumentParser(
        prog="python -m lib.workbook.runner",
        description=__doc__.split("\n\n")[0],
        epilog="Stopped or failed, it resumes where it was: call it again.",
    )
    parser.add_argument("params", nargs="?", default="params/quick.yaml", help="parameter file (default: %(default)s)")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="override single parameters")
    parser.add_argument("--fresh", action="store_true", help="run every notebook, whether or not it is up to date")
    parser.add_argument("--traceback", action="store_true", help="show the whole traceback of an error")
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        record = run(parameters.read(resolve(args.params), args.set), args.params, args.fresh)
        print(report.summary(resolve(record["parameters"]["run_dir"])))
        return 0
    except (KeyboardInterrupt, WorkbookError, OSError) as error:
        if args.traceback:
            traceback.print_exc()
        stopped = "stopped; call it again to go on from the notebook that was running."
        print(f"error: {stopped if isinstance(error, KeyboardInterrupt) else error}", file=sys.stderr)
    return 1


class _NamedCells(NBClientEngine):
    """Papermill's own engine, with the heading above the current cell on the progress bar, and warnings passed on."""

    at = ("", 0)  # heading and number of the cell being run: what a failure names

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, **kwargs):
        start, complete, cells = nb_man.cell_start, nb_man.cell_complete, nb_man.nb.cells
        done = threading.Event()

        def cell_start(cell, cell_index=None, **more):
            headings = [
                c.source.lstrip("# ").splitlines()[0]
                for c in cells[: cell_index + 1]
                if c.source.startswith("#") and c.cell_type == "markdown"
            ]
            cls.at = (headings[-1] if headings else "", cell_index + 1)
            nb_man.pbar.set_postfix_str(cls.at[0])
            start(cell, cell_index, **more)

        def cell_complete(cell, cell_index=None, **more):
            complete(cell, cell_index, **more)
            said = "".join(output.get("text", "") for output in cell.get("outputs", []))
            for line in said.splitlines():
                if line.startswith("WARNING"):
                    tqdm.write(line, file=sys.stderr)  # above the bar

        def tick():
            while not done.wait(1) and nb_man.pbar is not None:
                nb_man.pbar.refresh()

        nb_man.cell_start, nb_man.cell_complete = cell_start, cell_complete
        threading.Thread(target=tick, daemon=True).start()
        try:
            quiet = ["--log-level=CRITICAL"]  # the kernel's own chatter; what a cell raises is in the notebook
            return super().execute_managed_notebook(nb_man, kernel_name, extra_arguments=quiet, **kwargs)
        finally:
            done.set()


papermill_engines.register("workbook", _NamedCells)


def _bring_up_to_date(where: Path, notebook: str, values: dict, record: dict, number: str) -> None:
    stages = record["stages"]
    key = stage_key(where, notebook, values)
    made = {name: where / name for name in (*runs.STAGES[notebook].writes, f"{notebook}.ipynb")}
    before = stages.get(notebook, {})
    if before.get("key") == key and before.get("outputs") == _fingerprints(made):
        print(f"[{number}] {notebook}: up to date", flush=True)
        return
    stages[notebook] = {"status": "running", "started": _now()}
    write_json(where / "run.json", record)
    started = time.monotonic()
    try:
        _execute(where, notebook, values, number)
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        stages[notebook] |= {"status": "stopped" if stopped else "failed", "error": str(error) or "stopped"}
        raise
    seconds = round(time.monotonic() - started, 1)
    if not sys.stderr.isatty():
        print(f"[{number}] {notebook}: {seconds:.0f} s", flush=True)
    stages[notebook] |= {"status": "done", "key": key, "seconds": seconds, "outputs": _fingerprints(made)}
    write_json(where / "run.json", record)


def _execute(where: Path, notebook: str, values: dict, number: str) -> None:
    """Run one notebook; what is half-executed has the name NOTEBOOK.partial.ipynb and stays when it fails."""
    partial = where / f"{notebook}.partial.ipynb"
    own = {name: values[name] for name in declared(notebook)}
    bar = {"desc": f"[{number}] {notebook}", "disable": not sys.stderr.isatty(), "dynamic_ncols": True}
    try:
        papermill.execute_notebook(
            str(paths.NOTEBOOKS / f"{notebook}.ipynb"),
            str(partial),
            own,
            engine_name="workbook",
            progress_bar=bar,
            cwd=str(paths.NOTEBOOKS),
        )
    except (PapermillExecutionError, DeadKernelError, OSError) as error:
        heading, cell = _NamedCells.at
        what = f"{error.ename}: {error.evalue}" if isinstance(error, PapermillExecutionError) else _died(error)
        raise WorkbookError(f"{notebook}, cell {cell} ({heading}): {what} (read {shown(partial)})") from error
    partial.replace(where / f"{notebook}.ipynb")


def _died(error: Exception) -> str:
    return "the kernel died (out of memory, or killed)" if isinstance(error, DeadKernelError) else str(error)


def _record(where: Path, values: dict, parameter_file: str, fresh: bool) -> dict:
    """run.json as it stands at the start: what was done before is kept, what was running then was interrupted."""
    before = read_json(where / "run.json") if (where / "run.json").exists() else {}
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
    write_json(where / "run.json", record)
    return record


def _fingerprints(files: dict[str, Path]) -> dict[str, str]:
    return {name: fingerprint(path) if path.exists() else "missing" for name, path in files.items()}


def revision() -> str:
    """The commit, with "+" where files differ from it; "unknown" outside a checkout, or without git."""
    if not shutil.which("git"):
        return "unknown"
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=False).stdout.strip()
    return (commit + ("+" if dirty else "")) if commit else "unknown"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


if __name__ == "__main__":
    sys.exit(main())
