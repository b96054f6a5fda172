"""What is known of artists whom listeners name (artists.csv): facts from general knowledge.

To add an artist, add a line: genres, decades, country (ISO 3166), language (ISO 639-1; empty for instrumental music),
moods of moods.yaml, and the nearest artists. Several values in a cell are joined by semicolons, the best known first.
"""

from pathlib import Path

import pandas as pd

from lib.tracks.songs import plain

ARTISTS = pd.read_csv(Path(__file__).with_name("artists.csv"), keep_default_na=False).astype("str")
_GENRES = ARTISTS.set_index(plain(ARTISTS["name"]))["genres"].str.replace(";", ", ")


def genres(artists: pd.Series) -> pd.Series:
    """Return the genres of each track's first artist, "trip hop, electronic"; "" where none are known. (n,) -> (n,)."""
    whole = plain(artists).map(_GENRES)  # "Tyler, The Creator"
    first = plain(artists.str.replace(r", .*", "", regex=True)).map(_GENRES)
    return whole.fillna(first).fillna("").astype("str")
