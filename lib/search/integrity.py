"""Whether a run is whole: model, forms of it and index belong together, and their files are as they were written.

It reads files and computes nothing: who only asks this need not wait for PyTorch.
"""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError

from lib.core.errors import WorkbookError
from lib.core.files import fingerprint, read_json
from lib.core.paths import shown
from lib.core.runs import need

FORMS = "encoders.json"  # in encoders/: which forms there are, of which model


def forms(run: Path) -> dict[str, str]:
    """The forms of the encoder that a run has, the reference first, and the fingerprint of each.

    Raises:
        WorkbookError: they were made of another model than the run's.
    """
    model, file = fingerprint(run / "model"), run / "encoders" / FORMS
    about = read_json(file) if file.exists() else {"model": model, "forms": {}}
    if about["model"] != model:
        raise WorkbookError(
            f"{shown(run)}: encoders/ was made with another model than model/, or a file of model/ was changed or "
            "lost. Run 03_finetune again."
        )
    return {"torch": model, **about["forms"]}


def folder_of(run: Path, form: str) -> Path:
    """Where one form of a run's encoder lies, as it was written.

    Raises:
        WorkbookError: the run does not have it, it is damaged, or it was made of another model.
    """
    known, folder = forms(run), run / "model" if form == "torch" else run / "encoders" / form
    if form not in known:
        raise WorkbookError(f"{shown(run)} has no encoder {form!r}, only {', '.join(known)}. Run 03_finetune again.")
    if form != "torch" and (not folder.is_dir() or fingerprint(folder) != known[form]):
        raise WorkbookError(f"{shown(folder)} is damaged or lost. Run 03_finetune again.")
    return folder


def damaged(index: Path) -> list[str]:
    """The files of an index that are not as they were written; all of them are read."""
    files = read_json(index / "index.json")["files"]
    return [name for name, said in files.items() if not (index / name).exists() or fingerprint(index / name) != said]


def whole(run: Path) -> str:
    """Check all that serves of a run. -> its model's fingerprint

    Raises:
        WorkbookError: something is missing, damaged, or of another model.
    """
    need(run, "model", "encoders", "index")
    about, known = read_json(run / "index" / "index.json"), forms(run)
    if about["model"] != known["torch"]:
        raise WorkbookError(f"{shown(run)}: index/ was made with another model than model/. Run 03_finetune again.")
    if lost := damaged(run / "index"):
        raise WorkbookError(f"{shown(run)} is damaged: {', '.join(lost)} of index/ changed. Run 03_finetune again.")
    for form in known:
        folder_of(run, form)
    return known["torch"]


# What reading a damaged run ends in.
DAMAGED = (ValueError, OSError, KeyError, TypeError, RuntimeError, SafetensorError)
