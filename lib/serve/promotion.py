"""Choose the run that is served. outputs/current is a link to it; outputs/previous is a link to the run before it."""

from pathlib import Path

from lib.core.errors import WorkbookError
from lib.core.files import point
from lib.core.paths import ROOT, resolve, shown
from lib.core.runs import folder
from lib.search.integrity import check_index
from lib.search.recommender import open_run
from lib.serve.contract import CANARY


def promote(run: str) -> str:
    """Check a run, then serve it from now on. -> a message. After a WorkbookError nothing has changed."""
    current, previous = _links()
    target = resolve(run)
    if current.exists() and target == current.resolve():
        return f"{shown(target)} is served already."
    model = check(target)
    if current.exists():
        point(previous, current.resolve())
    point(current, target)
    return f"{shown(current)} is {shown(target)} now, model {model[:12]}."


def rollback() -> str:
    """Check the previous run, then serve it again. -> a message. After a WorkbookError nothing has changed."""
    current, previous = _links()
    if not previous.exists():
        raise WorkbookError(f"there is nothing to go back to: {shown(previous)} does not exist.")
    back, away = previous.resolve(), current.resolve()
    if back == away:
        raise WorkbookError(f"there is nothing to go back to: {shown(back)} is served already.")
    model = check(back)
    point(current, back)
    point(previous, away)
    return f"{shown(current)} is {shown(back)} again, model {model[:12]}."


def spare(name: str, run: Path) -> Path:
    """Return a folder for a new run: of outputs/NAME to NAME-4 the first that is not `run` and not served.

    The run before the served one counts as served, so that a rollback finds it.
    """
    served = {run.resolve(), *(link.resolve() for link in _links())}
    return next(
        path for n in ("", "-2", "-3", "-4") if (path := ROOT / "outputs" / f"{name}{n}").resolve() not in served
    )


def check(run: Path) -> str:
    """Open a run, check its index against its fingerprints, and recommend tracks. -> the model's fingerprint."""
    songs = open_run(run)
    check_index(run)
    if songs.recommend(CANARY).empty:
        raise WorkbookError(f"{shown(run)} cannot be served: it has no tracks.")
    return songs.fingerprints["model"]


def _links() -> tuple[Path, Path]:
    outputs = folder(ROOT / "outputs")
    return outputs / "current", outputs / "previous"
