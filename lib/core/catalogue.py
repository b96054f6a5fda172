"""Track tables: what every room needs to know of them."""

from pathlib import Path

import pandas as pd
import yaml

# Our name of a mood -> its names in other languages.
TRANSLATIONS = yaml.safe_load(Path(__file__).with_name("translations.yaml").read_text(encoding="utf-8"))
LEADER = r"(?i)^(\S+ \S.*?) (?:&|and) (?:the|his|her) .*"  # of a band: "Bob Marley & The Wailers"


def titles(tracks: pd.DataFrame) -> pd.Series:
    """Return a name for each track: its title, or the beginning of its text if it has no title."""
    return tracks["title"].where(tracks["title"] != "", tracks["text"].str[:60].str.strip() + "…")
