"""A catalogue of titles, artists and albums: the sentences and pictures of notebook 01."""

import numpy as np
import pandas as pd
import pytest

from lib.tracks import completing, pictures, synthetic
from lib.tracks.columns import NUMBERS


@pytest.fixture(scope="module")
def bare() -> pd.DataFrame:
    """Return synthetic tracks without all but their names."""
    tracks = synthetic.generate(300, 7)
    nothing = dict.fromkeys(("mood", "genre", "description", "tags", "release_date"), "")
    return tracks.assign(**nothing, **dict.fromkeys(NUMBERS, np.nan))


def test_gaps_name_the_tracks_without_a_mood_and_the_requests_for_them(bare):
    names = "Requests for tracks without both name artists, albums and songs."
    assert completing.gaps(bare) == (
        f"No track has a mood, and nothing in the file allows one. No track has a genre. {names}"
    )
    some = completing.gaps(bare.assign(mood=["calm"] * 11 + [""] * 289))
    assert some.startswith("289 of 300 tracks have no mood, and nothing in the file allows one. No track has a genre.")
    assert completing.gaps(bare.assign(mood="calm")) == "No track has a genre."
    assert completing.gaps(bare.assign(tags="live, loud")).endswith("name tags.")
    assert completing.gaps(synthetic.generate(50, 7)) == ""


def test_pictures_leave_out_columns_that_the_catalogue_lacks(bare):
    assert pictures.plane(bare) is pictures.pairs(bare, ["calm"]) is None
    figure = pictures.plane(bare.assign(mood=["calm"] * 11 + [""] * 289))
    assert figure.axes[0].get_title("left") == "11 of 300 tracks have a mood, and none has audio features"
    assert [text.get_text() for text in figure.axes[0].texts] == ["calm (11)"]
    both = {"yours": bare, "synthetic": synthetic.generate(300, 7)}
    assert [axes.get_xlabel() for axes in pictures.tails(both).axes] == [pictures.ARTISTS]
    assert len(pictures.tails({"synthetic": both["synthetic"]}).axes) == 3
    assert pictures.tails(both | {"yours": bare.assign(artist="")}) is None
