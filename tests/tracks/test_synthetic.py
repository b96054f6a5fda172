"""Synthetic tracks: the same for each seed, with features, words and artists that agree."""

import hashlib
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.model_selection import cross_val_score
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

from lib.core import files
from lib.tracks import artists, moods, plausibility, synthetic, wording


@pytest.fixture(scope="module")
def tracks() -> pd.DataFrame:
    return synthetic.generate(2000, seed=3)


def test_the_same_seed_gives_the_same_bytes(tracks, tmp_path):
    again, other = synthetic.generate(2000, seed=3), synthetic.generate(2000, seed=4)
    assert tracks.equals(again) and not tracks.equals(other)
    for name, table in (("a", tracks), ("b", again)):
        files.write_parquet(tmp_path / f"{name}.parquet", table)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_the_same_seed_gives_the_same_bytes_on_any_machine():
    """A change of moods.yaml, phrases.yaml or a pinned version changes the checksum; update it then."""
    digest = hashlib.sha256(synthetic.generate(500, seed=1).to_csv(index=False).encode()).hexdigest()
    assert digest == "c7d0738d556b62550beaf5f5414f7aace7345b2a18b59f1df9997621c9a53739"


def test_features_follow_moods(tracks):
    by_mood = tracks.groupby("mood")[["energy", "valence", "tempo"]].median()
    assert by_mood.loc["energetic", "energy"] > by_mood.loc["calm", "energy"] + 0.3
    assert by_mood.loc["happy", "valence"] > by_mood.loc["sad", "valence"] + 0.3
    correlation = tracks[["energy", "loudness", "acousticness", "danceability", "valence"]].corr()
    assert correlation.loc["energy", "loudness"] > 0.7 and correlation.loc["energy", "acousticness"] < -0.5
    assert correlation.loc["danceability", "valence"] > 0.2


def test_features_are_correlated_within_a_mood_and_genre_too():
    table, names = synthetic.generate(30_000, seed=5), ["energy", "loudness", "acousticness"]
    correlation = (table[names] - table.groupby(["mood", "genre"])[names].transform("mean")).corr()
    assert correlation.loc["energy", "loudness"] > 0.5 and correlation.loc["energy", "acousticness"] < -0.3


def test_tails_are_long(tracks):
    per_artist = tracks["artist"].value_counts()
    assert per_artist.iloc[0] > 8 * per_artist.median()
    assert tracks["duration_ms"].quantile(0.99) > 2.2 * tracks["duration_ms"].median()
    assert tracks["popularity"].quantile(0.95) > 2.5 * tracks["popularity"].median()
    assert 0.02 < tracks["explicit"].mean() < 0.25


def test_tracks_fit_their_genre_and_language(tracks):
    korean = tracks[(tracks["genre"] == "K-pop") & (tracks["language"] == "ko")]
    assert len(korean) > 3 and korean["title"].str.contains("[가-힣]").any()
    assert tracks["language"].nunique() >= 8
    years = tracks["release_date"].str[:4].astype(int)
    first, last = (tracks["genre"].map(lambda genre: moods.GENRES[genre].years[i]) for i in (0, 1))  # noqa: B023
    assert ((years >= first) & (years <= last)).all()


def test_a_third_blend_two_near_moods_with_a_weight(tracks):
    both = tracks[tracks["mood2"] != ""]
    assert 0.3 < len(both) / len(tracks) < 0.4 and both["mood_weight"].between(0.5, 0.9).all()
    distances = [moods.DISTANCES[a][b] for a, b in zip(both["mood"], both["mood2"], strict=True)]
    assert max(distances) < 1.2 and (tracks.loc[tracks["mood2"] == "", "mood_weight"] == 1).all()


def test_texts_have_no_empty_slot(tracks):
    for column in ("title", "artist", "description", "tags", "text"):
        assert tracks[column].str.len().min() >= 1
        assert not tracks[column].str.contains(r"[{}]|\b(?:nan|None)\b|  ").any()
    assert not tracks["description"].str.contains(r"\ba [aeio]", flags=re.I).mean() > 0.05


def test_descriptions_vary_in_form_and_some_name_no_mood(tracks):
    described = tracks["description"]
    assert described.str.len().quantile(0.9) > 2.5 * described.str.len().quantile(0.1)
    assert described.str.split().str[:3].str.join(" ").value_counts(normalize=True).iloc[0] < 0.08
    share = moods.words_of(tracks["description"], list(moods.MOODS)).any(axis=1).mean()
    assert 0.5 < share < 0.9  # the others are silent about mood, or paraphrase it


def test_a_typo_swaps_two_letters_or_leaves_one_out():
    assert wording.with_typo("very calm indeed", 0.35) == "very clam indeed"
    assert wording.with_typo("very calm indeed", 0.45) == "very cam indeed"
    assert wording.with_typo("a b c", 0.5) == "a b c"


def test_no_two_artists_share_a_name():
    assert artists.draw(3000, 1, np.random.default_rng(1))["name"].is_unique


def test_titles_are_distinct_and_do_not_reveal_the_mood():
    table = synthetic.generate(6000, seed=7)
    titles = table["title"].str.replace(r" No\. \d+(?=$| - | \()", "", regex=True)
    assert titles.nunique() > 5600 and table["album"].nunique() > 3500
    assert titles.str.split().str[:2].str.join(" ").value_counts(normalize=True).iloc[0] < 0.01
    guesser = make_pipeline(CountVectorizer(min_df=2), MultinomialNB())
    for column in ("title", "album"):
        accuracy = cross_val_score(guesser, table[column], table["mood"], cv=5).mean()
        assert accuracy < table["mood"].value_counts(normalize=True).iloc[0] + 0.03
    words = titles[table["language"].isin(["", "en"])]
    assert moods.words_of(words, list(moods.MOODS)).any(axis=1).mean() < 0.005


def test_moods_and_languages_are_plausible_in_their_genres():
    table = synthetic.generate(10_000, seed=5)
    pairs = set(zip(table["genre"], table["mood"], strict=True))
    assert not {("gamelan", "angry"), ("new age", "angry"), ("bossa nova", "triumphant")} & pairs
    for row in table.itertuples():
        genre = moods.GENRES[row.genre]
        assert {row.mood, row.mood2} <= {*genre.moods, *genre.rare, ""}
        assert row.language in {*genre.languages, ""}
    usual = np.mean(
        [mood in moods.GENRES[genre].moods for genre, mood in zip(table["genre"], table["mood"], strict=True)]
    )
    assert 0.75 < usual < 0.9
    home = table["language"] == table["genre"].map(lambda genre: moods.GENRES[genre].languages[0])
    assert home[table["language"] != ""].mean() > 0.8


def test_instrumental_tracks_have_no_voices(tracks):
    wordless = tracks[tracks["language"] == ""]
    sung = wordless["tags"].str.replace("no vocals|no singing|no voice at all", "", regex=True)
    assert not sung.str.contains(r"\b(?:vocals|sung|lyrics|rapping)\b", regex=True).any()


def test_phrases_fit_their_genre():
    at = list(moods.MOODS).index("energetic") * len(moods.GENRES)
    activities = {genre: plausibility.phrases("activities", "train")[at + i] for i, genre in enumerate(moods.GENRES)}
    assert "a rave" in activities["techno"] and "a rave" not in activities["bluegrass"]
    assert "palm-muted riffs" not in plausibility.phrases("sound")[list(moods.GENRES).index("bossa nova")]
    for field in ("activities", "sound", "vocals", "times", "playlists"):
        assert min(map(len, plausibility.phrases(field, "train" if field == "activities" else ""))) >= 1


def test_instruments_agree_with_their_article():
    words = np.array(["congas", "piano", "808 bass", "ukulele", "brass", "EDM synth", "bass"], dtype=object)
    expected = ["congas", "a piano", "an 808 bass", "a ukulele", "brass", "an EDM synth", "a bass"]
    assert list(wording.counted(words)) == expected
