"""moods.yaml: its shape, its words, and the plane."""

from lib.tracks import moods


def test_moods_have_their_shape():
    assert {"calm", "energetic", "melancholic"} <= set(moods.MOODS) and len(moods.MOODS) >= 16
    for mood in moods.MOODS.values():
        assert -1 <= mood.valence <= 1 and -1 <= mood.arousal <= 1 and len(mood.tempo) == 2
        for field in (mood.words, mood.phrases, mood.activities):
            assert list(field) == list(moods.SPLITS) and all(field.values())
        for name in ("critics", "listeners", "playlists", "times", "instruments", "vocals", "sound"):
            phrases = getattr(mood, name)
            assert len(phrases) >= 3 and all(isinstance(phrase, str) for phrase in phrases)


def test_genres_have_their_shape():
    assert len(moods.GENRES) >= 60
    for genre in moods.GENRES.values():
        assert set(genre.moods) | set(genre.rare) <= set(moods.MOODS) and len(genre.instruments) >= 2
        assert set(genre.languages) <= set(moods.LANGUAGES)
        assert genre.years[0] <= genre.peak <= genre.years[1] and not set(genre.moods) & set(genre.rare)
        assert all(0 <= share <= 1 for share in (genre.acoustic, genre.danceable, genre.vocal))
        assert all(isinstance(name, str) for name in (*genre.artists, *genre.instruments))


def test_no_mood_word_is_in_two_places():
    for field in ("words", "phrases", "activities"):
        words = [w.casefold() for m in moods.MOODS.values() for split in getattr(m, field).values() for w in split]
        assert len(words) == len(set(words)), [w for w in words if words.count(w) > 1]


def test_near_and_opposite_moods():
    assert "sad" in moods.near("melancholic") and "angry" not in moods.near("calm") and moods.near("polka") == []
    assert moods.opposite("calm") == "angry"
