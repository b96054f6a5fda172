"""Which model the tier serves: versions in MLflow's registry, and the alias "serving" on one of them.

    python -m deploy.scale.registry promote outputs/quick
    python -m deploy.scale.registry rollback

A version holds what serves of a run: index and encoder. It is checked to be whole before it is registered, and asked
something by each worker before that serves it. Whoever serves follows the alias, and remembers where it last
pointed, so that it can start again while MLflow is gone. Of packages this needs MLflow's client alone, so that Triton's
environment, which has no PyTorch, can use it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import mlflow
from mlflow.exceptions import MlflowException, RestException

NAME, SERVING, BEFORE = "music-recommender", "serving", "before"
HELD = ("model", "encoders", "index")  # of a run: what answers need of it
ADDRESS = os.environ.setdefault("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
# The file that remembers what was served last; without one nothing is.
SERVED = Path(os.environ["SERVED"]) if "SERVED" in os.environ else None
# A registry that is gone is noticed in a second: those who serve ask again, with what they have.
os.environ |= {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")


class Version(NamedTuple):
    """A version of the model.

    Attributes:
        number: MLflow's.
        model: SHA-256 of the encoder, which every answer names.
        source: where its files are: a folder of this machine, or an address of an object store.
        index: SHA-256 of the index.
        run: what its folder was called.
    """

    number: str
    model: str
    source: str
    index: str = ""
    run: str = ""

    @property
    def triton(self) -> str:
        """Its name in Triton: two versions are there side by side while one takes the other's place."""
        return f"encoder-{self.model[:12]}"


@cache
def _client() -> mlflow.MlflowClient:
    return mlflow.MlflowClient(ADDRESS)


def serving() -> Version | None:
    """The version that is to be served, or the last that was where the registry is gone; None before the first.

    Raises:
        MlflowException: the registry does not answer, and nothing is remembered.
    """
    try:
        version = _at(SERVING)
    except MlflowException:
        if SERVED and SERVED.exists():
            return Version(**json.loads(SERVED.read_text()))
        raise
    if SERVED and version:
        _remember(SERVED, version)
    return version


def pull(version: Version) -> Path:
    """Its files on this machine. A source that is a folder here is used where it lies; another is downloaded."""
    return Path(mlflow.artifacts.download_artifacts(version.source))


def promote(run: Path, model: str, index: str) -> Version:
    """Register what serves of a run, and have it served.

    Args:
        model, index: SHA-256 of its encoder and of its index.

    Raises:
        LookupError: it is served already; there would be nothing to go back to.
    """
    client, now = _client(), _at(SERVING)
    if now and (now.model, now.index) == (model, index):
        raise LookupError(f"{_called(now)} is served already, with this model and this index")
    mlflow.set_tracking_uri(ADDRESS)
    mlflow.set_experiment(NAME)
    with mlflow.start_run(run_name=run.name) as record:
        for name in HELD:
            mlflow.log_artifacts(str(run / name), f"served/{name}")
    try:
        client.create_registered_model(NAME)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{record.info.artifact_uri}/served"
    about = {"model": model, "index": index, "run": run.name}
    made = client.create_model_version(NAME, source, record.info.run_id, about, await_creation_for=0)
    if now:
        client.set_registered_model_alias(NAME, BEFORE, now.number)
    client.set_registered_model_alias(NAME, SERVING, made.version)
    return Version(str(made.version), source=source, **about)


def rollback() -> Version:
    """Have the version before served again.

    Raises:
        LookupError: there is none.
    """
    now, before = _at(SERVING), _at(BEFORE)
    if not before:
        raise LookupError("there is nothing to go back to: only one version was ever promoted")
    _client().set_registered_model_alias(NAME, SERVING, before.number)
    _client().set_registered_model_alias(NAME, BEFORE, now.number)
    return before


def _remember(file: Path, version: Version) -> None:
    said = json.dumps(version._asdict())
    if not file.exists() or file.read_text() != said:
        temporary = file.with_suffix(f".{os.getpid()}")
        temporary.write_text(said)
        temporary.replace(file)


def _at(alias: str) -> Version | None:
    try:
        found = _client().get_model_version_by_alias(NAME, alias)
    except RestException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    about = {name: found.tags.get(name, "") for name in ("model", "index", "run")}
    return Version(str(found.version), source=found.source, **about)


def _called(version: Version) -> str:
    return f"Version {version.number} (run {version.run}, model {version.model[:12]}, index {version.index[:12]})"


def main(argv: list[str] | None = None) -> int:
    """The command line; 0 when the alias has moved, 1 with one line on why not."""
    parser = argparse.ArgumentParser(prog="python -m deploy.scale.registry", description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("promote", help="serve another run").add_argument("run", help="its folder")
    commands.add_parser("rollback", help="serve the version before again")
    commands.add_parser("serving", help="say which version is served")
    args = parser.parse_args(argv)
    from lib.core.errors import WorkbookError
    from lib.core.files import fingerprint
    from lib.core.paths import resolve
    from lib.search.integrity import folder_of, whole  # Triton's environment has no pandas

    try:
        if args.command == "promote":
            run = resolve(args.run)
            model = whole(run)
            folder_of(run, "onnx")  # which Triton serves
            version = promote(run, model, fingerprint(run / "index" / "index.json"))
        elif args.command == "rollback":
            version = rollback()
        elif not (version := serving()):
            raise LookupError("no version was promoted yet")
    except (WorkbookError, MlflowException, LookupError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    said = "is served" if args.command == "serving" else "is what is to be served; the workers take it within seconds"
    print(f"{_called(version)} {said}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
