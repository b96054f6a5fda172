"""Indexing: embed a run's catalogue and write its index; write it again after the catalogue has changed."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from pyarrow.feather import read_table

from lib.core.catalogue import titles
from lib.core.encoder import embed, load
from lib.core.errors import WorkbookError, disk_advice
from lib.core.files import atomic, fingerprint, read_json, write_json
from lib.core.paths import shown
from lib.core.processes import only_one
from lib.core.progress import Progress
from lib.core.runs import need
from lib.search.artists import names_of, write_artists
from lib.search.index import FACTS, KINDS, SHOWN, TRACKS, VECTORS, write_lists
from lib.search.integrity import READ_ERRORS, check_index, folder_of, read_index
from lib.search.names.mentions import write_names
from lib.search.words import write_words

ARTISTS = "artists.parquet"  # what is known of artists
CHUNK = 1024  # texts embedded and written at a time
Encode = Callable[[Iterator[pd.Series]], Iterator[np.ndarray]]  # chunks of m texts -> (m, d) float32 of each


def build_index(
    run: Path, tracks: pd.DataFrame, encoder: str = "torch", kind: str = "auto", progress: bool = False,
    encode: Encode | None = None,
) -> None:  # fmt: skip
    """Embed the catalogue with the run's model and write index/ atomically.

    Vectors of the present index are reused, if the same model made it. A killed process resumes.

    Args:
        encoder: the form that encodes queries.
        kind: exact, lists, or auto, which decides by the number of tracks.
        encode: embeds chunks of texts, in their order; by default this process does.

    Raises:
        WorkbookError: another process builds the index; or the form is missing, damaged or of another model.
    """
    with only_one(run, ".index.lock"):
        folder_of(run, encoder)  # an index that could not serve is not built
        # The folder's model, not one in memory: index.json records the folder's fingerprint.
        model, model_print = load(run / "model"), fingerprint(run / "model")
        folder = _unfinished(run, model_print, tracks["text"])
        encode = encode or (lambda chunks: (embed(model, texts) for texts in chunks))
        shape = len(tracks), model.get_embedding_dimension()
        embed_catalogue(encode, shape, tracks["text"], folder / VECTORS, *_present(run, model_print), progress)
        write_lists(folder, kind, progress)
        write_words(folder, tracks["text"], tracks.get("tags"))
        artists = pd.read_parquet(run / ARTISTS) if (run / ARTISTS).exists() else None
        write_names(folder, tracks, None if artists is None else names_of(artists))
        if artists is not None:
            write_artists(folder, artists)
        _write_tracks(folder, tracks)
        files = {file.name: fingerprint(file) for file in sorted(folder.iterdir())}
        about = {"model": model_print, "encoder": encoder, "kind": kind, "files": files, "tracks": len(tracks)}
        write_json(folder / "index.json", about)
        with atomic(run / "index") as temporary:
            folder.rename(temporary)


def _write_tracks(folder: Path, tracks: pd.DataFrame) -> None:
    """Write what search shows and knows of the tracks, uncompressed and in one piece, so that it can be mapped."""
    years = tracks["release_date"].astype("str").str[:4]
    table = tracks.assign(title=titles(tracks), year=years)[[*SHOWN, *FACTS, "text"]].reset_index(drop=True)
    types = dict.fromkeys(("mood", "mood2", "artist", "genre", "year", "language"), "category")
    types |= dict.fromkeys(("tempo", "energy", "instrumentalness", "acousticness"), "float32")
    table.astype(types).to_feather(folder / TRACKS, compression="uncompressed", chunksize=max(len(table), 1))


def reindex(run: Path, kind: str | None = None, encode: Encode | None = None) -> int:
    """Index a run's catalogue again with the same model; only new texts are embedded. -> the number of tracks.

    By default the index keeps its kind.

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
        try:
            build_index(run, tracks, encoder, kind, progress=True, encode=encode)
        except OSError as error:
            reason = f"{error.strerror or error}. {disk_advice(error)}"
            raise WorkbookError(f"cannot index {shown(run)}: {reason} Its index is unchanged.") from error
    return len(tracks)


def embed_catalogue(
    encode: Encode, shape: tuple[int, int], texts: pd.Series, file: Path, present: dict[str, int],
    vectors: np.ndarray | None, progress: bool = False,
) -> None:  # fmt: skip
    """Write the unit vectors of texts as a .npy file, (n, d) float32; memory holds one chunk. Equal texts share one.

    Args:
        file: a new file, or the partial file of a killed process for the same model and texts: it is resumed.
        present: the rows of texts in `vectors`, (m, d), which are reused.
    """
    codes = pd.factorize(texts)[0]
    first = np.unique(codes, return_index=True)[1][codes]  # the first row with the same text
    reused = np.array([present.get(text, -1) for text in texts], int)
    n, d = shape
    with file.open("ab") as out, Progress(total=n, desc="embedding", unit="track", disable=not progress) as bar:
        offset, done = _resume(out, shape)
        bar.update(done)
        chunks = [slice(start, min(start + CHUNK, n)) for start in range(done, n, CHUNK)]
        new = [(first[rows] >= rows.start) & (reused[rows] < 0) for rows in chunks]  # the texts to embed
        embedded = encode(texts.iloc[rows][mask] for rows, mask in zip(chunks, new, strict=True) if mask.any())
        for rows, mask in zip(chunks, new, strict=True):
            chunk, repeated = np.empty((len(mask), d), np.float32), first[rows] < rows.start
            if repeated.any():  # in an earlier chunk
                chunk[repeated] = np.memmap(file, np.float32, "r", offset, (rows.start, d))[first[rows][repeated]]
            if (copied := ~mask & ~repeated).any():
                chunk[copied] = vectors[reused[rows][copied]]
            if mask.any():
                chunk[mask] = next(embedded)
            if not (np.isfinite(chunk).all() and chunk.any()):
                raise WorkbookError("the tuned encoder gives vectors of zeros or NaN: training diverged; lower lr.")
            out.write(chunk)
            out.flush()
            bar.update(len(chunk))


def _resume(out, shape: tuple[int, int]) -> tuple[int, int]:
    """Cut a file after its last complete vector, or begin it. -> the offset of the vectors, their number."""
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    offset = header.tell()
    if out.tell() < offset:
        out.truncate(0)
        out.write(header.getvalue())
        out.flush()
    done = (out.seek(0, 2) - offset) // (4 * shape[1])
    out.truncate(offset + 4 * shape[1] * done)
    return offset, done


def _unfinished(run: Path, model: str, texts: pd.Series) -> Path:
    """Return the folder of an unfinished index, named by model and texts, so that a killed process can resume."""
    key = hashlib.sha256(model.encode() + pd.util.hash_pandas_object(texts, index=False).to_numpy().tobytes())
    folder = run / f".index.unfinished-{key.hexdigest()[:16]}"
    for other in set(run.glob(".index.unfinished*")) - {folder}:
        shutil.rmtree(other)
    folder.mkdir(exist_ok=True)
    return folder


def _present(run: Path, model: str) -> tuple[dict[str, int], np.ndarray | None]:
    """Return the texts' rows and the vectors of the present index; nothing if it is damaged or of another model."""
    try:
        read_index(run, model)
        check_index(run)
        texts = read_table(run / "index" / TRACKS)["text"].to_pandas()
        return {text: row for row, text in enumerate(texts)}, np.load(run / "index" / VECTORS, mmap_mode="r")
    except (WorkbookError, *READ_ERRORS):
        return {}, None
