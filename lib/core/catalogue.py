"""Track tables: what every room needs to know of them."""

import pandas as pd

LEADER = r"(?i)^(\S+ \S.*?) (?:&|and) (?:the|his|her) .*"  # of a band: "Bob Marley & The Wailers"


def titles(tracks: pd.DataFrame) -> pd.Series:
    """Return a name for each track: its title, or the beginning of its text if it has no title."""
    return tracks["title"].where(tracks["title"] != "", tracks["text"].str[:60].str.strip() + "…")
