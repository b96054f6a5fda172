"""The tier's registry: MLflow holds versions of the model, and the alias "serving" marks the served one.

    python -m deploy.scale.registry promote outputs/quick
    python -m deploy.scale.registry rollback

A version holds a run's index and encoder. `promote` checks that they are complete before it registers them, and each
worker computes one answer before it serves them. Workers and Tritons follow the alias and remember its last version:
they can start while MLflow is down. This module needs no package but MLflow's client, because Triton's environment
imports it and has no PyTorch.
"""

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
HELD = ("model", "encoders", "index")  # parts of a run that answers need
ADDRESS = os.environ.setdefault("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
# The file that remembers the last served version, if there is one.
SERVED = Path(os.environ["SERVED"]) if "SERVED" in os.environ else None
# Short time limits: while the registry is down, workers serve their version and ask again.
os.environ |= {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")


class Version(NamedTuple):
    """A version of the model."""

    number: str  # MLflow's
    model: str  # SHA-256 of the encoder; every answer names it
    source: str  # of the files: a folder on this machine, or an address of an object store
    index: str = ""  # SHA-256 of the index
    run: str = ""  # name of the run's folder

    @property
    def triton(self) -> str:
        """The encoder's name in Triton, which holds two versions during a change."""
        return f"encoder-{self.model[:12]}"


@cache
def _client() -> mlflow.MlflowClient:
    return mlflow.MlflowClient(ADDRESS)


def serving() -> Version | None:
    """Return the version to serve, None before the first. While the registry is down, it is the last one.

    Raises:
        MlflowException: the registry does not answer, and no version is remembered.
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
    """Return the folder of a version's files: the source itself if it is on this machine, else a download."""
    return Path(mlflow.artifacts.download_artifacts(version.source))


def promote(run: Path, model: str, index: str) -> Version:
    """Register a run's model and index as a version, and serve it.

    Args:
        model, index: SHA-256 of the run's encoder and of its index.

    Raises:
        LookupError: this version is served already; a second promotion would leave no version for a rollback.
    """
    client, now = _client(), _at(SERVING)
    if now and (now.model, now.index) == (model, index):
        raise LookupError(f"{_name(now)} is served already, with this model and this index")
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
    new = client.create_model_version(NAME, source, record.info.run_id, about, await_creation_for=0)
    if now:
        client.set_registered_model_alias(NAME, BEFORE, now.number)
    client.set_registered_model_alias(NAME, SERVING, new.version)
    return Version(str(new.version), source=source, **about)


def rollback() -> Version:
    """Serve the previous version again.

    Raises:
        LookupError: there is no previous version.
    """
    now, before = _at(SERVING), _at(BEFORE)
    if not before:
        raise LookupError("there is no previous version: only one was ever promoted")
    _client().set_registered_model_alias(NAME, SERVING, before.number)
    _client().set_registered_model_alias(NAME, BEFORE, now.number)
    return before


def _remember(file: Path, version: Version) -> None:
    text = json.dumps(version._asdict())
    if not file.exists() or file.read_text() != text:
        temporary = file.with_suffix(f".{os.getpid()}")
        temporary.write_text(text)
        temporary.replace(file)


def _at(alias: str) -> Version | None:
    try:
        version = _client().get_model_version_by_alias(NAME, alias)
    except RestException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    about = {name: version.tags.get(name, "") for name in ("model", "index", "run")}
    return Version(str(version.version), source=version.source, **about)


def _name(version: Version) -> str:
    return f"Version {version.number} (run {version.run}, model {version.model[:12]}, index {version.index[:12]})"


def main(argv: list[str] | None = None) -> int:
    """Run the command line. Return 0 if it worked, 1 after an error in one line."""
    parser = argparse.ArgumentParser(prog="python -m deploy.scale.registry", description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("promote", help="serve another run").add_argument("run", help="the run's folder")
    commands.add_parser("rollback", help="serve the previous version again")
    commands.add_parser("serving", help="print the served version")
    args = parser.parse_args(argv)
    from lib.core.errors import WorkbookError
    from lib.core.files import fingerprint
    from lib.core.paths import resolve
    from lib.search.integrity import check_run, folder_of  # not at the top: Triton's environment has no pandas

    try:
        if args.command == "promote":
            run = resolve(args.run)
            model = check_run(run)
            folder_of(run, "onnx")  # the form that Triton serves
            version = promote(run, model, fingerprint(run / "index" / "index.json"))
        elif args.command == "rollback":
            version = rollback()
        elif not (version := serving()):
            raise LookupError("no version was promoted yet: make scale-promote RUN=outputs/...")
    except (WorkbookError, MlflowException, LookupError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    state = "is served" if args.command == "serving" else "is the version to serve; the workers follow within seconds"
    print(f"{_name(version)} {state}.")
    if args.command != "serving":
        from deploy.scale.events import hints

        hints.tell("version", version.number)
    return 0


if __name__ == "__main__":
    sys.exit(main())
