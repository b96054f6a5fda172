"""Integrity: a run's model, its forms and its index belong together, and their files are unchanged.

The checks read files and compute nothing, so a caller need not load PyTorch. Each raises WorkbookError.
"""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError

from lib.core.errors import WorkbookError
from lib.core.files import fingerprint, read_json
from lib.core.paths import shown
from lib.core.runs import need

FORMS = "encoders.json"  # in encoders/: the forms' fingerprints, and that of the model they come from
READ_ERRORS = (ValueError, OSError, KeyError, TypeError, RuntimeError, SafetensorError)  # from reading a damaged run
AGAIN = "make index RUN=... writes index/ again; notebook 03_finetune the rest."


def forms(run: Path) -> dict[str, str]:
    """Return the fingerprint of each form of a run's encoder, the reference first. Check that the model made them."""
    model, file = fingerprint(run / "model"), run / "encoders" / FORMS
    about = read_json(file) if file.exists() else {"model": model, "forms": {}}
    _check_maker(run, "encoders", about["model"], model)
    return {"torch": model, **about["forms"]}


def folder_of(run: Path, form: str) -> Path:
    """Return the folder of one form. Check that the run has it and that its files are unchanged."""
    fingerprints, folder = forms(run), run / "model" if form == "torch" else run / "encoders" / form
    if form not in fingerprints:
        names = ", ".join(fingerprints)
        raise WorkbookError(f"{shown(run)} has no encoder {form!r}, only {names}. Run 03_finetune again.")
    if form != "torch" and (not folder.is_dir() or fingerprint(folder) != fingerprints[form]):
        raise WorkbookError(f"{shown(folder)} is damaged or lost. Run 03_finetune again.")
    return folder


def read_index(run: Path, model: str) -> dict:
    """Return the content of index.json. Check that the model with this fingerprint made it, and a thousand vectors."""
    about = read_json(run / "index" / "index.json")
    _check_maker(run, "index", about["model"], model)
    vectors = np.load(run / "index" / "vectors.npy", mmap_mode="r")
    lengths = np.linalg.norm(vectors[:: 1 + len(vectors) // 1000], axis=1)
    if np.isclose(lengths, 1, atol=1e-3).mean() < 0.9:  # zeros, NaN; a text without a known word may give zeros
        raise WorkbookError(f"{shown(run)} is damaged: index/vectors.npy holds no unit vectors. {AGAIN}")
    return about


def check_index(run: Path) -> None:
    """Check that no file of a run's index is missing or changed. It reads all of them."""
    files = read_json(run / "index" / "index.json")["files"]
    paths = {run / "index" / name: sha256 for name, sha256 in files.items()}
    if changed := [path.name for path, sha256 in paths.items() if not path.exists() or fingerprint(path) != sha256]:
        raise WorkbookError(f"{shown(run)} is damaged: {', '.join(changed)} of index/ changed. {AGAIN}")


def check_run(run: Path) -> str:
    """Check all files that serve a run. -> the model's fingerprint."""
    need(run, "model", "encoders", "index")
    fingerprints = forms(run)
    check_index(run)
    read_index(run, fingerprints["torch"])
    for form in fingerprints:
        folder_of(run, form)
    return fingerprints["torch"]


def _check_maker(run: Path, part: str, maker: str, model: str) -> None:
    if maker != model:
        raise WorkbookError(
            f"{shown(run)}: {part}/ was made with another model than model/, or a file of model/ was changed or lost. "
            "Run 03_finetune again."
        )
