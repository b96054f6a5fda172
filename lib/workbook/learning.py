"""Train the next model on what listeners did: notebook 08 through papermill, once. A timer makes it hourly."""

import os
import signal

from lib.core import runs
from lib.core.errors import WorkbookError
from lib.core.files import read_json
from lib.core.paths import resolve
from lib.core.processes import only_one
from lib.serve.promotion import spare
from lib.workbook.parameters import overridden
from lib.workbook.runner import execute

NOTEBOOK = "08_learn_from_listeners"
RESULT = "learned.json"
TIER = "outputs/scale/objects/lake/events"  # the lake of a tier on this machine: its store keeps objects as files
BUSY = "another process learns in {}: it ends first; the next hour reads what it left."


def learn(run: str, overrides: list[str]) -> str:
    """Run notebook 08 on a finished run. -> its verdict, a line that begins with "promoted", "passed" or "kept".

    Without a lake it reads that of the variable LAKE, else the tier's, else it simulates listeners. A model that passes
    is promoted.

    Args:
        overrides: parameters of the notebook, texts "key=value".

    Raises:
        WorkbookError: an unknown parameter; the notebook failed, was stopped, or another process learns.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    values, last = overridden(NOTEBOOK, ["promote=true", *overrides]), resolve(run)
    runs.need(last, "tracks.parquet", "requests.parquet", "model", "index")
    with only_one(runs.folder("outputs"), ".learn.lock", BUSY):
        folder = runs.folder(values["out_dir"] or spare("learned", last))
        (folder / RESULT).unlink(missing_ok=True)
        values |= {"run_dir": str(last), "out_dir": str(folder)}
        values["lake"] = values["lake"] or os.environ.get("LAKE") or (TIER if resolve(TIER).is_dir() else "")
        try:
            execute(folder, NOTEBOOK, values, NOTEBOOK)
        except KeyboardInterrupt as error:
            raise WorkbookError("stopped: nothing was promoted. The same command resumes the training.") from error
        return read_json(folder / RESULT)["verdict"]
