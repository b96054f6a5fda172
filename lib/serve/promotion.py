"""Which run is served: outputs/current is a link to it, outputs/previous to the one before.

    python -m lib.serve.promotion promote outputs/b
    python -m lib.serve.promotion rollback

Both are checked before the link moves. A running `make serve` follows within seconds, without a gap.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lib.core.errors import WorkbookError
from lib.core.files import point
from lib.core.paths import ROOT, resolve, shown
from lib.core.runs import folder
from lib.search.integrity import damaged
from lib.search.recommender import open_run

CANARY = "Jazzy lo-fi beats for studying"


def promote(run: str) -> str:
    """Serve `run` from now on.

    Raises:
        WorkbookError: it cannot answer; nothing has changed.
    """
    current, previous = _links()
    wanted = resolve(run)
    if current.exists() and wanted == current.resolve():
        return f"{shown(wanted)} is served already."
    model = check(wanted)
    if current.exists():
        point(previous, current.resolve())
    point(current, wanted)
    return f"{shown(current)} is {shown(wanted)} now, model {model[:12]}."


def rollback() -> str:
    """Serve the run before the current one again.

    Raises:
        WorkbookError: there is none, or it cannot answer; nothing has changed.
    """
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


def main(argv: list[str] | None = None) -> int:
    """The command line; 0 when the link has moved, 1 with one line on why not."""
    parser = argparse.ArgumentParser(prog="python -m lib.serve.promotion", description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("promote", help="serve another run").add_argument("run", help="its folder")
    commands.add_parser("rollback", help="serve the run before again")
    args = parser.parse_args(argv)
    try:
        print(promote(args.run) if args.command == "promote" else rollback())
        return 0
    except WorkbookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _links() -> tuple[Path, Path]:
    outputs = folder(ROOT / "outputs")
    return outputs / "current", outputs / "previous"


def check(run: Path) -> str:
    """Open the run, see that its index is as it was written, and ask it something. -> its model's fingerprint."""
    songs = open_run(run)
    if lost := damaged(run / "index"):
        raise WorkbookError(f"{shown(run)} is damaged: {', '.join(lost)} of index/ changed. Run 03_finetune again.")
    if songs.recommend(CANARY).empty:
        raise WorkbookError(f"{shown(run)} cannot be served: it has no tracks.")
    return songs.fingerprints["model"]


if __name__ == "__main__":
    sys.exit(main())
