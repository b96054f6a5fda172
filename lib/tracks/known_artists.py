"""What is known of artists whom listeners name (artists.csv): facts from general knowledge.

To add an artist, add a line: genres, decades, country (ISO 3166), language (ISO 639-1; empty for instrumental music),
moods of moods.yaml, and the nearest artists. Several values in a cell are joined by semicolons, the best known first.
"""

from pathlib import Path

import pandas as pd

from lib.tracks.songs import plain

ARTISTS = pd.read_csv(Path(__file__).with_name("artists.csv"), keep_default_na=False).astype("str")
_FACTS = ARTISTS.set_index(plain(ARTISTS["name"]))[["genres", "decades"]]


def facts(artists: pd.Series) -> pd.DataFrame:
    """Return what is known of each track's artist, or of its first one: (n,) -> columns genres and decades.

    Values are joined: "trip hop, electronic"; "" where nothing is known.
    """
    first = plain(artists.str.replace(r", .*", "", regex=True))
    whole = plain(artists)  # "Tyler, The Creator"
    known = _FACTS.reindex(whole.where(whole.isin(_FACTS.index), first)).set_axis(artists.index)
    return known.fillna("").apply(lambda column: column.str.replace(";", ", "))
