"""Indexing: write a run's index, and write it again after its catalogue has changed."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from pyarrow.feather import read_table

from lib.core.catalogue import titles
from lib.core.encoder import load
from lib.core.errors import WorkbookError
from lib.core.files import atomic, fingerprint, read_json, write_json
from lib.core.paths import shown
from lib.core.processes import only_one
from lib.core.runs import need
from lib.search.embedding import Encode, Former, embed_catalogue, in_process
from lib.search.index import COLUMNS, KINDS, LISTS, TRACKS, VECTORS, write_lists
from lib.search.integrity import READ_ERRORS, check_index, folder_of, read_index


def build_index(
    run: Path, tracks: pd.DataFrame, encoder: str = "torch", kind: str = "auto", progress: bool = False,
    encode: Encode | None = None,
) -> None:  # fmt: skip
    """Embed the catalogue with the run's model and write index/ atomically. Vectors of the former index are reused.

    Args:
        encoder: the form that encodes queries.
        kind: exact, lists, or auto, which decides by the number of tracks.
        encode: embeds the texts; by default this process does.

    Raises:
        WorkbookError: another process builds the index; or the form is missing, damaged or of another model.
    """
    with only_one(run, ".index.lock"):
        folder_of(run, encoder)  # an index that could not serve is not built
        # The folder's model, not one in memory: index.json records the folder's fingerprint.
        model, model_print = load(run / "model"), fingerprint(run / "model")
        folder = _unfinished(run, model_print, tracks["text"])
        former, d = _former(run, model_print), model.get_embedding_dimension()
        embed_catalogue(encode or in_process(model), d, tracks["text"], folder / VECTORS, former, progress)
        write_lists(folder, kind, progress)
        _write_tracks(tracks, folder / TRACKS)
        names = [VECTORS, TRACKS, *([LISTS] if (folder / LISTS).exists() else [])]
        files = {name: fingerprint(folder / name) for name in names}
        about = {"model": model_print, "encoder": encoder, "kind": kind, "files": files, "tracks": len(tracks)}
        write_json(folder / "index.json", about)
        with atomic(run / "index") as temporary:
            folder.rename(temporary)


def _unfinished(run: Path, model: str, texts: pd.Series) -> Path:
    """Return the folder of an unfinished index, named by model and texts, so that a killed process can resume."""
    key = hashlib.sha256(model.encode() + pd.util.hash_pandas_object(texts, index=False).to_numpy().tobytes())
    folder = run / f".index.unfinished-{key.hexdigest()[:16]}"
    for other in set(run.glob(".index.unfinished*")) - {folder}:
        shutil.rmtree(other)
    folder.mkdir(exist_ok=True)
    return folder


def _former(run: Path, model: str) -> Former | None:
    """Open the present index, if the same model made it and its files are unchanged."""
    try:
        read_index(run, model)
        check_index(run)
        texts = read_table(run / "index" / TRACKS)["text"].to_pandas()
        return Former(texts, np.load(run / "index" / VECTORS, mmap_mode="r"))
    except (WorkbookError, *READ_ERRORS):  # all texts are embedded
        return None


def _write_tracks(tracks: pd.DataFrame, file: Path) -> None:
    """Write the columns that search needs, uncompressed and in one piece: so the file is memory-mapped, not read."""
    table = tracks[[*COLUMNS, "text"]].assign(title=titles(tracks)).astype({"mood": "category", "artist": "category"})
    table.reset_index(drop=True).to_feather(file, compression="uncompressed", chunksize=max(len(table), 1))


def reindex(run: Path, kind: str | None = None, encode: Encode | None = None) -> int:
    """Index a run's catalogue again with the same model; only new texts are embedded. -> the number of tracks.

    Args:
        kind: one of `KINDS`; by default that of the present index.
        encode: as in `build_index`.

    Raises:
        WorkbookError: there is no such kind; the run has no index or is damaged; or another process writes in it.
    """
    if kind not in (None, *KINDS):
        raise WorkbookError(f"index is {kind!r}, but must be one of {', '.join(KINDS)}.")
    need(run, "tracks.parquet", "model", "index")
    with only_one(run):
        try:
            tracks, about = pd.read_parquet(run / "tracks.parquet"), read_json(run / "index" / "index.json")
            encoder, kind = about["encoder"], kind or about["kind"]
            if kind not in KINDS:
                raise ValueError(f"index.json says {kind!r}, not {', '.join(KINDS)}")
        except READ_ERRORS as error:
            raise WorkbookError(f"{shown(run)} is damaged: {error}. Run 03_finetune again.") from error
        build_index(run, tracks, encoder, kind, progress=True, encode=encode)
    return len(tracks)
