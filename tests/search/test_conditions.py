"""Conditions: what requests ask for and what not, and how well tracks fit."""

import re

import numpy as np
import pandas as pd
import pytest

from lib.search.conditions.facts import Facts
from lib.search.conditions.reading import read
from lib.search.conditions.vocabulary import DATA, Vocabulary, words_of
from lib.tracks.known_artists import ARTISTS
from lib.tracks.moods import GENRES, LANGUAGES, MOODS


@pytest.fixture(scope="module")
def facts():
    """Return the facts of eight tracks."""
    return Facts(
        pd.DataFrame(
            {
                "genre": ["boom bap", "post-rock", "Pop / Rock", "", "bebop", "deep house", "zamba", "soul"],
                "language": ["en", "", "es", "fr", "", "", "Klingon", "en"],
                "mood": ["angry", "dreamy", "happy", "sad", "calm", "groovy", "happy", "nostalgic"],
                "mood2": ["", "sad", "", "", "", "", "", ""],
                "release_date": ["1994-05-02", "2003", "", "1968", "1957", "2024", "1991", "1969"],
                "instrumentalness": [0.0, 0.9, 0.1, np.nan, 0.8, 0.9, 0.0, 0.0],
                "acousticness": [0.1, 0.2, 0.3, np.nan, 0.8, 0.0, 0.9, 0.4],
                "explicit": [True, False, False, False, False, False, False, False],
                "tempo": [88, 70, 150, 100, 180, 124, np.nan, 100],
                "energy": [0.8, 0.4, 0.9, 0.1, 0.5, 0.8, 0.3, 0.5],
            }
        )
    )


WANTED = {
    "rap to cook to": {"genre": ["hip hop"]},
    "Hip-Hop or R & B": {"genre": ["hip hop", "R&B"]},
    "rock 'n' roll at its best": {"genre": ["rock and roll"]},
    "classic rock": {"genre": ["classic rock"]},
    "bossanova": {"genre": ["bossa nova"]},
    "kpop": {"genre": ["K-pop"]},
    "French pop": {"language": ["French"], "genre": ["pop"]},
    "zamba songs": {"genre": ["zamba"]},
    "80s": {"decade": ["1980s"]},
    "punk but calm": {"genre": ["punk"], "mood": ["calm"]},
    "no, more energy": {"energy": ["loud"]},
    "rock with less energy": {"genre": ["rock"], "energy": ["quiet"]},
    "tired after work": {"mood": ["calm"]},
    "songs from the 1880s": {"decade": ["1880s"]},  # not the 1980s: no track fits, and the answer says so
    "the early eighties": {"decade": ["1980s"]},
    "1960's soul": {"decade": ["1960s"], "genre": ["soul"]},
    "a hit from 1975": {"decade": ["1975"]},
    "songs from before 1980": {"decade": ["before 1980"]},
    "from the 1990s until now": {"decade": ["since 1990"]},
    "late 90s R&B": {"decade": ["1995–1999"], "genre": ["R&B"]},
    "since the early 2000s": {"decade": ["since 2000"]},
    "old school hip hop": {"decade": ["1970s–1990s"], "genre": ["hip hop"]},
    "between 1985 and 1992": {"decade": ["1985–1992"]},
    "oldies": {"decade": ["1950s–1960s"]},
    "old French songs": {"decade": ["old"], "language": ["French"]},
    "recent hits": {"decade": ["new"]},
    "sung in Portuguese": {"voice": ["sung"], "language": ["Portuguese"]},
    "with a woman who sings": {"voice": ["sung"]},
    "instrumental": {"voice": ["instrumental"]},
    "family-friendly tunes": {"explicit": ["clean"]},
    "clean rap": {"explicit": ["clean"], "genre": ["hip hop"]},
    "slow songs": {"tempo": ["slow"]},
    "upbeat, at 128 bpm": {"tempo": ["128 BPM"], "mood": ["happy", "groovy"]},
    "slow songs under 70 bpm": {"tempo": ["under 70 BPM"]},
    "sad but upbeat": {"mood": ["sad"], "tempo": ["fast"]},
    "hip hop for a party": {"genre": ["hip hop"], "mood": ["happy", "groovy"]},  # of the moods that are here
    "jazz for dinner": {"genre": ["jazz"], "mood": ["calm"]},
    "rainy jazz night": {"genre": ["jazz"], "mood": ["calm", "dreamy"]},
    "sad jazz for dinner": {"genre": ["jazz"], "mood": ["sad"]},
    "german love songs": {"language": ["German"]},  # no track here is romantic
    "italian party songs": {"language": ["Italian"], "mood": ["happy", "groovy"]},
    "deutsche Lieder": {"language": ["German"]},
    "musique espagnole": {"language": ["Spanish"]},
    "rock de los 80": {"genre": ["rock"], "decade": ["1980s"]},
    "text me back": {},
    "relaxing piano": {"mood": ["calm"]},
    "coffee shop vibes": {"mood": ["calm"]},
    "songs for a party": {},  # the encoder knows, also beside years, which are not encoded
    "80s party": {"decade": ["1980s"]},
    "something more cheerful": {"mood": ["happy"]},
    "my baby won't sleep": {"mood": ["calm"]},
    "J'ai le cœur brisé": {"mood": ["sad"]},
    "over 170 beats per minute": {"tempo": ["over 170 BPM"]},
    "Spanish please": {"language": ["Spanish"]},
    "I'm learning Spanish": {},
    "songs in other languages": {"language": ["foreign"]},
    "unplugged sets": {"sound": ["acoustic"]},
    "high energy": {"energy": ["loud"]},
    "happy songs": {"mood": ["happy"]},
    "I'm sad": {},
    "happy but slow": {"mood": ["happy"], "tempo": ["slow"]},
    "fast, sad": {"mood": ["sad"], "tempo": ["fast"]},
    "a happy, slow piano": {"mood": ["happy"], "tempo": ["slow"]},
    "I'm so sad, jazz please": {"genre": ["jazz"]},
    "I feel happy and slow": {"tempo": ["slow"]},
    "rock aus den 80ern": {"genre": ["rock"], "decade": ["1980s"]},
    "rock años 70": {"genre": ["rock"], "decade": ["1970s"]},
    "sad piano from the 90s": {"mood": ["sad"], "decade": ["1990s"]},
    "triste": {"mood": ["sad"]},
    "estoy triste": {"mood": ["sad"]},
    "Ich bin glücklich": {"mood": ["happy"]},
    "música feliz": {"mood": ["happy"]},
    "fröhliche Musik": {"mood": ["happy"]},
    "a bit happier please": {"mood": ["happy"]},
    "old blues from the 50s": {"genre": ["blues"], "decade": ["1950s"]},
    "back to happy": {"mood": ["happy"]},
    "sad instead": {"mood": ["sad"]},
    "actually sad": {"mood": ["sad"]},
    "not your typical jazz": {"genre": ["jazz"]},
    "less known 70s disco": {"genre": ["disco"], "decade": ["1970s"]},
    "between 100 and 110 bpm": {"tempo": ["100–110 BPM"]},
    "something danceable": {},
}
NEGATED = {
    "not rock": ({}, {"genre": ["rock"]}, "music"),
    "música sin reggaeton": ({}, {"genre": ["reggaeton"]}, "música"),
    "nada de rock": ({}, {"genre": ["rock"]}, "music"),
    "nichts Trauriges": ({}, {"mood": ["sad"]}, "music"),
    "trop triste": ({}, {"mood": ["sad"]}, "music"),
    "zu langsam": ({}, {"tempo": ["slow"]}, "music"),
    "too sad, something lighter please": ({"mood": ["happy"]}, {"mood": ["sad"]}, "something lighter please"),
    "rock, not too hard": ({"genre": ["rock"]}, {"energy": ["loud"]}, "rock"),
    "not too cheesy pop": ({"genre": ["pop"]}, {}, "pop"),
    "not that into rock": ({}, {"genre": ["rock"]}, "music"),
    "too angry, too aggressive": ({}, {"mood": ["angry"]}, "music"),
    "metal, not so aggressive": ({"genre": ["metal"]}, {"mood": ["angry"]}, "metal"),
    "jazz sans paroles pour dormir": (
        {"genre": ["jazz"], "voice": ["instrumental"], "mood": ["calm"]},
        {},
        "jazz instrumental pour dormir",
    ),
    "Musik ohne Text": ({"voice": ["instrumental"]}, {}, "Musik instrumental"),
    "the opposite of sad": ({}, {"mood": ["sad"]}, "music"),
    "studying, no vocals": ({"voice": ["instrumental"], "mood": ["calm"]}, {}, "studying, instrumental"),
    "jazz, but not for a party": ({"genre": ["jazz"]}, {}, "jazz"),
    "everything except country": ({}, {"genre": ["country"]}, "music"),
    "anything but jazz": ({}, {"genre": ["jazz"]}, "music"),
    "no rap, metal, or country please": ({}, {"genre": ["hip hop", "metal", "country"]}, "music"),
    "sad but not slow": ({"mood": ["sad"]}, {"tempo": ["slow"]}, "sad"),
    "jazz, not too fast, for a cold night": ({"genre": ["jazz"]}, {"tempo": ["fast"]}, "jazz, for a cold night"),
    "no vocals": ({"voice": ["instrumental"]}, {}, "instrumental"),
    "party songs without any swearing": ({"explicit": ["clean"], "mood": ["happy", "groovy"]}, {}, "party songs clean"),
    "not instrumental": ({"voice": ["sung"]}, {}, "sung"),
    "not too fast jazz": ({"genre": ["jazz"]}, {"tempo": ["fast"]}, "jazz"),
    "I'm not happy today": ({}, {"mood": ["happy"]}, "music"),
    "i'm not feeling happy": ({}, {"mood": ["happy"]}, "i'm not feeling"),
    "nicht traurig": ({}, {"mood": ["sad"]}, "music"),
    "nothing sad": ({}, {"mood": ["sad"]}, "music"),
    "nothing from the 80s": ({}, {"decade": ["1980s"]}, "music"),
    "no songs in English": ({}, {"language": ["English"]}, "music"),
    "non-English folk": ({"genre": ["folk"]}, {"language": ["English"]}, "folk"),
    "I don't want to hear any pop": ({}, {"genre": ["pop"]}, "music"),
    "blues instead of rock": ({"genre": ["blues"]}, {"genre": ["rock"]}, "blues"),
    "less metal and more soul": ({"genre": ["soul"]}, {"genre": ["metal"]}, "more soul"),
    "rock but from the 70s, not the 80s": (
        {"genre": ["rock"], "decade": ["1970s"]},
        {"decade": ["1980s"]},
        "rock but from the 70s",
    ),
    "make sure it isn't sad, for tea": ({}, {"mood": ["sad"]}, "for tea"),
    "w/o singing": ({"voice": ["instrumental"]}, {}, "instrumental"),
    "nothing dirty": ({"explicit": ["clean"]}, {}, "clean"),
    "anything but rock-ish: make it warm": ({}, {"genre": ["rock"]}, "make it warm"),
    "more rock than pop": ({"genre": ["rock"]}, {"genre": ["pop"]}, "more rock"),
    "with very few vocals": ({"voice": ["instrumental"]}, {}, "instrumental"),
    "too angry": ({}, {"mood": ["angry"]}, "music"),
    "folk with no banjo and a slow tempo": ({"genre": ["folk"], "tempo": ["slow"]}, {}, "folk and a slow tempo"),
    "no harsh vocals": ({}, {}, "music"),
    "no English lyrics": ({}, {"language": ["English"]}, "music"),
    "anything but rock, my flat mate plays it": ({}, {"genre": ["rock"]}, "my flat mate plays it"),
    "i hate country, so jazz": ({"genre": ["jazz"]}, {"genre": ["country"]}, "so jazz"),
}
TRAPS = {
    "can't stop listening to jazz": {"genre": ["jazz"]},
    "not only rock": {"genre": ["rock"]},
    "I lose track of time": {},
    "a few fast songs": {"tempo": ["fast"]},
    "a soundtrack for nobody calling back": {},
    "the kids dance all day": {},
    "I don't mind metal": {"genre": ["metal"]},
    "why not rock": {"genre": ["rock"]},
    "nothing but jazz": {"genre": ["jazz"]},
    "it's not fast enough": {"tempo": ["fast"]},
    "no matter what": {},
    "an ode to my country": {},
    "good for my soul": {},
    "to rock the party": {},
    "the metal detector beeps": {},
    "for an old friend": {},
    "in my new car": {},
    "I've got the blues": {},
    "a house party, then house cleaning": {},
    "popular with everyone": {},
    "an indie film": {},
    "I am in my thirties": {},
    '"No Rock in Spanish" please': {},
}


@pytest.mark.parametrize("request_", WANTED)
def test_wanted(facts, request_):
    understood = facts.understand(request_)
    assert understood.wanted == WANTED[request_]
    assert (understood.unwanted, understood.negated, understood.text) == ({}, [], request_)


@pytest.mark.parametrize("request_", NEGATED)
def test_negated(facts, request_):
    understood = facts.understand(request_)
    assert (understood.wanted, understood.unwanted, understood.text) == NEGATED[request_]
    assert understood.negated == [request_[start:end] for start, end in understood.spans] != []


@pytest.mark.parametrize("request_", TRAPS)
def test_no_negation(facts, request_):
    understood = facts.understand(request_)
    assert (understood.wanted, understood.unwanted, understood.text) == (TRAPS[request_], {}, request_)


def test_phrases_without_a_condition_are_returned(facts):
    understood = facts.understand("dinner music, no trumpets or cheesy pop, please")
    assert understood.negated == ["trumpets", "cheesy pop"]
    assert understood.text == "dinner music, please"


def test_a_name_names_no_condition(facts):
    text = "no more New Order, play Rock Lobster"
    understood = facts.understand(text, [(8, 17), (24, 36)])
    assert (understood.wanted, understood.unwanted) == ({}, {})
    assert (understood.negated, understood.text) == (["New Order"], "play Rock Lobster")


@pytest.mark.parametrize("text", ["", " ", "?", "no", "not", "no no no", "…", "NOT, but", "İ ß 🎵 không", "no " * 500])
def test_odd_texts(facts, text):
    assert facts.understand(text).wanted == {}


@pytest.mark.parametrize(
    ("condition", "value", "scores"),
    [
        ("genre", "hip hop", [1, 0, 0, 0.5, 0, 0, 0, 0]),
        ("genre", "trap", [0.6, 0, 0, 0.5, 0, 0, 0, 0]),
        ("genre", "rock", [0, 1, 1, 0.5, 0, 0, 0, 0]),
        ("genre", "pop", [0, 0, 1, 0.5, 0, 0, 0, 0]),
        ("genre", "house", [0, 0, 0, 0.5, 0, 1, 0, 0]),
        ("genre", "zamba", [0, 0, 0, 0.5, 0, 0, 1, 0]),
        ("genre", "rap", [1, 0, 0, 0.5, 0, 0, 0, 0]),
        ("decade", "1990s", [1, 0, 0.5, 0, 0, 0, 1, 0]),
        ("decade", "1970s", [0, 0, 0.5, 0, 0, 0, 0, 0]),
        ("decade", "1968", [0, 0, 0.5, 1, 0, 0, 0, 0.5]),
        ("decade", "before 1960", [0, 0, 0.5, 0, 1, 0, 0, 0]),
        ("decade", "since 2000", [0, 1, 0.5, 0, 0, 1, 0, 0]),
        ("tempo", "over 170 BPM", [0, 0, 0, 0, 1, 0, 0.5, 0]),
        ("tempo", "under 90 BPM", [1, 1, 0, 0, 0, 0, 0.5, 0]),
        ("tempo", "under 85 BPM", [0.4, 1, 0, 0, 0, 0, 0.5, 0]),
        ("language", "foreign", [0, 0, 1, 1, 0, 0, 1, 0]),
        ("language", "French", [0, 0, 0, 1, 0, 0, 0, 0]),
        ("mood", "sad", [0, 1, 0, 1, 0, 0, 0, 0]),
        ("voice", "instrumental", [0, 1, 0, 0.5, 1, 1, 0, 0]),
        ("explicit", "clean", [0, 1, 1, 1, 1, 1, 1, 1]),
    ],
)
def test_fits(facts, condition, value, scores):
    result = facts.fits(condition, value)
    assert result.dtype == np.float32
    assert result == pytest.approx(scores)
    assert facts.fits(condition, value, rows=np.array([3, 0])) == pytest.approx([scores[3], scores[0]])


def test_exact_leaves_near_misses_out(facts):
    assert facts.fits("genre", "trap", exact=True) == pytest.approx([0, 0, 0, 0.5, 0, 0, 0, 0])
    assert facts.fits("decade", "1970s", exact=True)[[2, 3, 7]] == pytest.approx([0.5, 0, 0])


@pytest.mark.parametrize(
    ("text", "wanted", "left"),
    [
        ("hapy songs", {"mood": ["happy"]}, "happy songs"),
        ("bosanova", {"genre": ["bossa nova"]}, "bossanova"),
        ("sad pinao", {"mood": ["sad"]}, "sad piano"),
        ("sad jaz", {"mood": ["sad"], "genre": ["jazz"]}, "sad jazz"),
        ("dnb", {"genre": ["drum and bass"]}, "drum and bass"),
        ("clasical, for dinner", {"genre": ["classical"], "mood": ["calm"]}, "classical, for dinner"),
        ("songs by elish", {}, "songs by elish"),
    ],
)
def test_a_misspelt_condition_or_instrument_is_corrected(facts, text, wanted, left):
    understood = facts.understand(text)
    assert understood.wanted == wanted and understood.text == left


@pytest.mark.parametrize(
    ("text", "mood", "left"),
    [
        ("I'm sad, cheer me up", "happy", "I'm, cheer me up"),
        ("I am so angry, calm me down", "calm", "I am so, calm me down"),
        ("depressed, need a lift", "happy", "need a lift"),
        ("I'm not sad, make me happy", "happy", "I'm not, make me happy"),
        ("I'm agnry, calm me down", "calm", "I'm, calm me down"),
        ("feeling anxious, calm songs please", "calm", "feeling, calm songs please"),
    ],
)
def test_a_feeling_is_not_encoded_beside_the_mood_that_is_asked_for(facts, text, mood, left):
    understood = facts.understand(text)
    assert understood.wanted == {"mood": [mood]} and understood.text == left


def test_tempo_old_and_new_are_gradual(facts):
    assert facts.fits("tempo", "slow")[[0, 1, 2, 6]] == pytest.approx([1, 1, 0, 0.5])
    assert 0 < facts.fits("tempo", "slow")[3] < 1
    assert facts.fits("decade", "old")[[3, 4]] == pytest.approx([1, 1])
    assert facts.fits("decade", "new")[5] == pytest.approx(1)


def test_a_track_without_voices_is_in_no_language():
    facts = Facts(pd.DataFrame({"language": ["ko", "", ""], "instrumentalness": [0.0, 0.9, 0.1]}))
    assert facts.fits("language", "Korean").tolist() == [1, 0, 0.5]
    assert facts.fits("language", "foreign").tolist() == [1, 0, 0.5]


def test_of_tracks_that_are_all_too_new_the_oldest_fit_old_best(facts):
    tracks = pd.DataFrame({"release_date": [1995, 2005, 2015, 2024]})
    fits = Facts(tracks).fits("decade", "old")
    assert fits[0] > fits[1] > fits[2] >= fits[3] == 0 and fits[0] < 0.5


def test_a_catalogue_of_titles_knows_no_condition():
    facts = Facts(pd.DataFrame({"title": ["So What", "Blue"], "genre": ["", ""], "explicit": [False, False]}))
    assert facts.fits("genre", "jazz") is None
    assert facts.fits("explicit", "clean") is None
    assert facts.understand("no jazz").unwanted == {"genre": ["jazz"]}


def test_missing_values_are_not_known():
    facts = Facts(pd.DataFrame({"genre": ["rock", None, np.nan], "explicit": [True, None, np.nan]}))
    assert facts.fits("genre", "rock") == pytest.approx([1, 0.5, 0.5])
    assert facts.fits("explicit", "clean") == pytest.approx([0, 0.5, 0.5])


def test_each_genre_has_its_family():
    """The table and moods.yaml name the same families."""
    facts = Facts(pd.DataFrame({"genre": list(GENRES)}))
    for i, genre in enumerate(GENRES.values()):
        assert facts.fits("genre", genre.family)[i] >= 0.8, genre.name
        assert facts.fits("genre", genre.name)[i] == 1


def test_each_known_artists_genre_has_a_family():
    genres = sorted(set(";".join(ARTISTS["genres"]).split(";")) - {"spoken word"})
    facts = Facts(pd.DataFrame({"genre": genres}))
    known = np.max([facts.fits("genre", family) for family in DATA["families"]], axis=0)
    assert [genre for genre, score in zip(genres, known, strict=True) if score < 0.8] == []


def test_each_language_is_read(facts):
    for code, language in LANGUAGES.items():
        assert DATA["languages"][language["name"]] == code
        assert facts.understand(f"songs in {language['name']}").wanted == {"language": [language["name"]]}
    assert set(DATA["adjectives"]["language"]) <= set(DATA["languages"])


def test_no_phrase_is_a_held_out_word():
    """Words for moods that training must not see do not help the search, either."""
    phrases = Vocabulary(moods=MOODS).phrases
    held_out = {words_of(word) for mood in MOODS.values() for split in ("dev", "test") for word in mood.words[split]}
    assert sorted(held_out & set(phrases)) == []
    for name, occasions in DATA["occasions"].items():
        kinds = (MOODS[name].words, MOODS[name].phrases, MOODS[name].activities)
        texts = [text for of in kinds for text in (*of["dev"], *of["test"])]
        assert not re.search(rf"\b({'|'.join(occasions)})\b", " | ".join(texts)), name


@pytest.mark.parametrize(
    ("text", "tempo"),
    [
        ("more than 120 bpm", "over 120 BPM"),
        ("less than 100 bpm", "under 100 BPM"),
        ("faster than 140 bpm", "over 140 BPM"),
        ("120 bpm", "120 BPM"),
    ],
)
def test_a_tempo_is_compared(text, tempo):
    assert read(text, Vocabulary()).wanted["tempo"][-1] == tempo


def test_who_wants_no_sad_song_wants_no_melancholic_one():
    vocabulary = Vocabulary(moods=["sad", "melancholic", "happy"])
    assert read("not sad", vocabulary).unwanted == {"mood": ["sad", "melancholic"]}
    assert read("melancholic but not sad", vocabulary).unwanted == {"mood": ["sad"]}
