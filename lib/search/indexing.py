"""indexing."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from pyarrow.feather import read_table

from lib.core.catalogue import titles
from lib.core.encoder import load
from lib.core.errors import WorkbookError
from lib.core.files import atomic, fingerprint, read_json, write_json
from lib.core.paths import resolve, shown
from lib.core.processes import only_one
from lib.core.runs import need
from lib.search.embedding import Encode, embed_catalogue, here, known
from lib.search.index import KINDS, LISTS, SHOWN, TRACKS, VECTORS, write_lists
from lib.search.integrity import DAMAGED, damaged, folder_of


def build_index(
    run: Path, tracks: pd.DataFrame, encoder: str = "torch", kind: str = "auto", progress: bool = False,
    encode: Encode | None = None,
) -> None:  # fmt: skip
    """Embed the catalogue with the model in the run's folder and write index/, whole or not at all.

    Args:
        encoder: the form of it that encodes requests, of those in encoders/.
        kind: exact, lists, or auto: by how many tracks there are.
        encode: who embeds; this process, unless it is given.

    Raises:
        WorkbookError: another process is at it; or that form is missing, damaged or of another model.
    """
    with only_one(run, ".index.lock"):
        folder_of(run, encoder)  # what could not serve is not indexed
        _build(run, tracks, encoder, kind, progress, encode)


def _build(run: Path, tracks: pd.DataFrame, encoder: str, kind: str, progress: bool, encode: Encode | None) -> None:
    # Not a model that the caller has in memory: what is recorded is the folder's fingerprint.
    model, model_print = load(run / "model"), fingerprint(run / "model")
    folder = run / ".index.unfinished"  # stays where it is if this is killed
    folder.mkdir(exist_ok=True)
    texts, before = _before(run / "index", model_print)
    old = known(tracks["text"], texts)
    d = model.get_embedding_dimension()
    embed_catalogue(encode or here(model), d, tracks["text"], folder / VECTORS, model_print, old, before, progress)
    write_lists(folder, kind, run / "index" if before is not None else None, old, progress)
    kept = tracks[[*SHOWN, "text"]].assign(title=titles(tracks)).astype({"mood": "category", "artist": "category"})
    # Uncompressed and in one piece: so it is memory-mapped, and not read at start.
    kept.reset_index(drop=True).to_feather(folder / TRACKS, compression="uncompressed", chunksize=max(len(kept), 1))
    names = [VECTORS, TRACKS, *([LISTS] if (folder / LISTS).exists() else [])]
    files = {name: fingerprint(folder / name) for name in names}
    about = {"model": model_print, "encoder": encoder, "kind": kind, "files": files, "tracks": len(tracks)}
    write_json(folder / "index.json", about)
    with atomic(run / "index") as whole:
        (folder / VECTORS).with_suffix(".key").unlink()
        folder.rename(whole)


def _before(folder: Path, model_print: str) -> tuple[pd.Series, np.ndarray | None]:
    """The texts and vectors of an index that is there already, if the same model made it."""
    try:
        if read_json(folder / "index.json")["model"] == model_print and not damaged(folder):
            return read_table(folder / TRACKS)["text"].to_pandas(), np.load(folder / VECTORS, mmap_mode="r")
    except (OSError, ValueError, KeyError):
        pass  # there is none, or it is damaged: all is embedded
    return pd.Series([], dtype="str"), None


def reindex(run: Path, kind: str | None = None, encode: Encode | None = None) -> int:
    """Index a run's catalogue again with the model it has: only texts that are new are embedded. -> how many tracks

    Args:
        kind: how it is searched; as before, unless it is given.
        encode: who embeds; this process, unless it is given.

    Raises:
        WorkbookError: the run has no index yet, it is damaged, or another process is at work in it.
    """
    need(run, "tracks.parquet", "model", "index")
    with only_one(run):
        try:
            tracks, before = pd.read_parquet(run / "tracks.parquet"), read_json(run / "index" / "index.json")
            encoder, kind = before["encoder"], kind or before["kind"]
            if kind not in KINDS:
                raise ValueError(f"index.json says {kind!r}, not {', '.join(KINDS)}")
        except DAMAGED as error:
            raise WorkbookError(f"{shown(run)} is damaged: {error}. Run 03_finetune again.") from error
        build_index(run, tracks, encoder, kind, progress=True, encode=encode)
    return len(tracks)


def main(argv: list[str] | None = None) -> int:
    """Index a run's catalogue again with the model it has: only texts that are new are embedded. A service follows."""
    parser = argparse.ArgumentParser(prog="python -m lib.search.indexing", description=main.__doc__)
    parser.add_argument("run", help="the run's folder, whose tracks.parquet has changed")
    parser.add_argument("--index", choices=KINDS, help="how it is searched (default: as before)")
    args = parser.parse_args(argv)
    try:
        reindex(resolve(args.run), args.index)
    except WorkbookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
