"""Requests and turns: conditions, names that are asked for or rejected, and the score of tracks."""

import time

import numpy as np
import pandas as pd
import pytest

from lib.search import fusion, index, query
from lib.search.artists import names_of, write_artists
from lib.search.conditions.vocabulary import INSTRUMENTS, instruments_of
from lib.search.index import Index
from lib.search.names.mentions import write_names
from lib.search.words import write_words

ROWS = [  # title, artist, genre, year, tempo, instrumentalness
    ("Paper Boats", "The Lanterns", "indie rock", "1994", 128, 0.0),
    ("Night Ferry", "The Lanterns", "indie rock", "1997", 90, 0.0),
    ("Cold Harbour", "Marta Quiroga", "hip hop", "1995", 92, 0.0),
    ("Slow Orbit", "Ivo Brandt", "ambient", "2015", 70, 0.9),
    ("Glass Lake", "Ivo Brandt", "ambient", "1996", 72, 0.9),
    ("Brass Parade", "Zoë Kravetz", "jazz", "1962", 140, 0.8),
]

KNOWN = [  # artists whom the world knows: name, genres, near, nicknames
    ("The Lanterns", "indie rock", "Zoë Kravetz", "lantern boys;lantz"),
    ("Harp & Anvil", "ambient;drone", "Ivo Brandt", "ivo brandt"),
    ("Olga Venn & The Night Owls", "hip hop", "", ""),
    ("Gesang", "ambient", "", ""),  # German for singing
]


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory) -> fusion.Fusion:
    """Six tracks with random vectors."""
    folder = tmp_path_factory.mktemp("index")
    columns = ["title", "artist", "genre", "year", "tempo", "instrumentalness"]
    tracks = pd.DataFrame(ROWS, columns=columns).assign(album="", language="", mood="calm", explicit=False)
    tracks["text"] = tracks["title"] + " — " + tracks["artist"] + ". " + tracks["genre"]
    write_words(folder, tracks["text"])
    known = pd.DataFrame(KNOWN, columns=["name", "genres", "near", "nicknames"])
    write_names(folder, tracks, names_of(known))
    write_artists(folder, known)
    vectors = np.random.default_rng(0).normal(size=(6, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return fusion.open_fusion(folder, Index(vectors), tracks)


def test_lists_propose_the_tracks_that_meet_all_conditions_and_all_of_an_artist(tmp_path, monkeypatch):
    """Few tracks meet three conditions, and most are far from a request in meaning. The best five are those of all."""
    monkeypatch.setattr(fusion, "CANDIDATES", 200)
    monkeypatch.setattr(index, "PROPOSING", 4)
    chance, n = np.random.default_rng(0), 20_000
    some = {
        "genre": ["hip hop", "jazz", "indie rock"],
        "year": ["1965", "1994", "2015"],
        "language": ["fr", "en", "ja"],
    }
    rare = {name: chance.choice(values, n, p=[0.03, 0.27, 0.7]) for name, values in some.items()}
    artist = np.where(np.arange(n) % 40, [f"Artist {i // 7}" for i in range(n)], "The Lanterns")
    tracks = pd.DataFrame(rare).assign(artist=artist, title="", album="", mood="calm", tempo=100, instrumentalness=0)
    tracks["text"] = tracks["artist"] + ". " + tracks["genre"]
    write_words(tmp_path, tracks["text"])
    write_names(tmp_path, tracks)
    centres = chance.normal(size=(100, 64))
    vectors = (centres[chance.integers(0, 100, n)] + 0.5 * chance.normal(size=(n, 64))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.save(tmp_path / index.VECTORS, vectors)
    index.write_lists(tmp_path, "lists")
    lists = fusion.open_fusion(tmp_path, index.open_index(tmp_path), tracks)
    exact = fusion.open_fusion(tmp_path, Index(vectors), tracks)
    for text in ("90s hip hop in French", "french jazz", "something by The Lanterns", "old hip hop, not in english"):
        reading, words = query.read(exact.names, exact.facts, exact.artists, text), exact.words.find([text])
        asked = fusion.Query(vectors[7], reading, words, words[:0])
        best = []
        for catalogue in (exact, lists):
            rows, cosine = catalogue.candidates(asked, None)
            best.append(np.sort(catalogue.score(asked, rows, cosine)[0])[-5:])
        assert len(rows) < 1_000 and np.allclose(*best, atol=2e-3), text  # the lists round cosines


def best(catalogue, text: str, history=()) -> list[str]:
    """Return the titles by the score for a request whose vector says nothing."""
    reading = query.read(catalogue.names, catalogue.facts, catalogue.artists, text, history)
    vector = np.zeros(64, np.float32)
    words = catalogue.words.find(reading.texts)
    unwanted = np.setdiff1d(catalogue.words.find(reading.negated), words)
    scores, *_ = catalogue.score(fusion.Query(vector, reading, words, unwanted), np.arange(6), np.zeros(6))
    assert (scores >= 0).all() and (scores <= 1).all()
    return [ROWS[row][0] for row in np.argsort(-scores, kind="stable") if scores[row] > 0.01]


def test_an_artist_that_is_asked_for_comes_first(catalogue):
    assert set(best(catalogue, "something by the lanterns")[:2]) == {"Paper Boats", "Night Ferry"}
    assert best(catalogue, "play brass parade")[0] == "Brass Parade"


def test_a_name_that_stands_for_others_is_not_asked_for(catalogue):
    reading = query.read(catalogue.names, catalogue.facts, catalogue.artists, "songs like The Lanterns and Ivo Brandt")
    assert [m.name for m in reading.alike] == ["The Lanterns", "Ivo Brandt"] and not reading.named


def test_a_rejected_artist_is_last(catalogue):
    reading = query.read(catalogue.names, catalogue.facts, catalogue.artists, "90s rock, but not The Lanterns")
    assert [m.name for m in reading.rejected] == ["The Lanterns"]
    assert reading.understood["not"]["artist"] == ["The Lanterns"] and reading.understood["decade"] == ["1990s"]


def test_a_negated_word_does_not_attract(catalogue):
    reading = query.read(catalogue.names, catalogue.facts, catalogue.artists, "not rock")
    assert reading.understood == {"not": {"genre": ["rock"]}} and "rock" not in reading.texts[0]


def test_a_later_turn_overrides_an_earlier_one(catalogue):
    reading = query.read(catalogue.names, catalogue.facts, catalogue.artists, "no, hip hop from the 80s", ["90s rock"])
    assert reading.wanted["decade"] == ["1980s"] and reading.wanted["genre"] == ["hip hop"]
    again = query.read(catalogue.names, catalogue.facts, catalogue.artists, "rock after all", ["not rock"])
    assert again.wanted["genre"] == ["rock"] and not again.unwanted
    back = query.read(
        catalogue.names, catalogue.facts, catalogue.artists, "something by The Lanterns", ["no more Lanterns, please"]
    )
    assert [m.name for m in back.named] == ["The Lanterns"] and not back.rejected
    kept = read(catalogue, "something from the 80s for dancing", ["90s rock"])
    assert len(kept.texts) == 2 and kept.weights[0] == 1 > kept.weights[1]


def test_earlier_turns_count_less(catalogue):
    weights = query.read(catalogue.names, catalogue.facts, catalogue.artists, "c", ["a", "b"]).weights
    assert weights.tolist() == sorted(weights, reverse=True) and len(weights) == 3


def test_conditions_lower_the_tracks_that_miss_them(catalogue):
    assert best(catalogue, "ambient from the 90s")[0] == "Glass Lake"


def test_a_note_says_what_the_catalogue_lacks(catalogue):
    reading = query.read(catalogue.names, catalogue.facts, catalogue.artists, "jazz")
    asked = fusion.Query(np.zeros(64, np.float32), reading, catalogue.words.find(["jazz"]), np.zeros(0, int))
    assert catalogue.note(asked, np.array([5]), [0.9]) is None
    assert "1 of 2 does not match jazz" in catalogue.note(asked, np.array([5, 0]), [0.9, 0.3])
    absent = query.read(catalogue.names, catalogue.facts, catalogue.artists, "play Night Ferry by The Cartographers")
    assert absent.missing == ["by The Cartographers"] and absent.named
    assert "There is nothing by The Cartographers" in catalogue.note(
        asked._replace(reading=absent), np.array([1]), [0.9]
    )
    assert (
        query.read(catalogue.names, catalogue.facts, catalogue.artists, "a song by the lanterns, by the sea").missing
        == []
    )
    assert "Nothing here comes close" in catalogue.note(asked, np.array([5]), [0.01])


@pytest.mark.parametrize(("text", "strange"), [("asdkj qwrtz", True), ("!!!", True), ("glad", False), ("jazz", False)])
def test_a_note_says_that_no_word_is_known(catalogue, text, strange):
    reading = query.read(catalogue.names, catalogue.facts, catalogue.artists, text)
    asked = fusion.Query(np.zeros(64, np.float32), reading, catalogue.words.find(reading.texts), np.zeros(0, int))
    assert (catalogue.note(asked, np.array([5]), [0.45]) == "No word of this is known here.") == strange
    assert catalogue.note(asked, np.array([5]), [0.55]) is None


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("something by the sea", []),
        ("anything by them", []),
        ("music for the party by Monday", []),
        ("Something by kraftwerk", ["by kraftwerk"]),
        ("a ballad by Nina Nobody", ["by Nina Nobody"]),
        ("play Purple Corn", ["called Purple Corn"]),
        ('put on "purple rain"', ["called purple rain"]),
        ("the song called hotel california, please", ["called hotel california"]),
        ("play Night Ferry", []),
        ("songs like Purple Corn", ["called Purple Corn"]),
        ("songs like Night Ferry", []),
        ("Play Classic Rock", []),
        ('something "chill"', []),
        ("play the best of the 90s", []),
    ],
)
def test_what_is_not_there_is_recognised_by_the_words_around(catalogue, text, missing):
    assert query.read(catalogue.names, catalogue.facts, catalogue.artists, text).missing == missing


def test_to_like_an_artist_is_to_ask_for_the_artist(catalogue):
    assert query.read(catalogue.names, catalogue.facts, catalogue.artists, "I'd like Ivo Brandt").named
    assert query.read(catalogue.names, catalogue.facts, catalogue.artists, "something like Ivo Brandt").alike


@pytest.mark.parametrize(
    "text", ["abcdefghij" * 100, "a!" * 500, "by A " * 200, "not " * 250, "ﷺ" * 1000, "play " + "A b " * 240]
)
def test_no_text_takes_long_to_read(catalogue, text):
    started = time.process_time()
    query.read(catalogue.names, catalogue.facts, catalogue.artists, text)
    assert time.process_time() - started < 1.5


def test_songs_like_an_artist_are_those_of_artists_nearby(catalogue):
    assert "Brass Parade" in best(catalogue, "songs like The Lanterns")  # by Zoë Kravetz
    assert [m.name for m in read(catalogue, "Lanterns-style music").alike] == ["The Lanterns"]


def test_few_songs_like_an_artist_are_by_the_artist(catalogue, monkeypatch):
    monkeypatch.setattr(fusion, "OWN", 1)
    vector, none = catalogue.index.vectors[3:5].sum(axis=0), np.zeros(0, int)
    asked = fusion.Query(vector / np.linalg.norm(vector), read(catalogue, "songs like Ivo Brandt"), none, none)
    scores, named, _ = catalogue.score(asked, *catalogue.candidates(asked, None))
    assert max(scores[3:5]) > 0.5 > 0.2 > min(scores[3:5]) and not named.any()


def test_an_artist_whom_the_catalogue_lacks_stands_for_the_artists_genres_and_neighbours(catalogue):
    reading = read(catalogue, "something like Harp & Anvil")
    assert reading.texts == ["ambient, drone"] and not reading.missing
    asked = fusion.Query(catalogue.index.vectors[3], reading, np.zeros(0, int), np.zeros(0, int))
    assert catalogue.note(asked, np.array([3]), [0.9]) == "Harp & Anvil is not here, these are of like genres."
    assert best(catalogue, "something like Harp & Anvil")[:2] == ["Slow Orbit", "Glass Lake"]
    asked = read(catalogue, "play something by Olga Venn")
    assert asked.missing == ["by Olga Venn"] and asked.texts == ["hip hop"]
    asked = fusion.Query(catalogue.index.vectors[3], asked, np.zeros(0, int), np.zeros(0, int))
    assert catalogue.note(asked, np.array([3]), [0.9]) == "There is nothing by Olga Venn."


def test_a_nickname_is_its_artist_unless_another_artist_has_that_name(catalogue):
    for text in ("play lantern boys", "play something by lantz", "songs by the lanternboys"):
        assert [m.name for m in read(catalogue, text).named] == ["The Lanterns"], text
    assert [m.name for m in read(catalogue, "something by ivo brandt").named] == ["Ivo Brandt"]


@pytest.mark.parametrize(
    ("text", "history", "wanted"),
    [
        ("no, faster", ["90s rock"], {"tempo": ["fast"], "genre": ["rock"], "decade": ["1990s"]}),
        ("older", ["90s rock"], {"genre": ["rock"], "decade": ["before 1990"]}),
        ("newer stuff", ["songs from the 60s"], {"decade": ["since 1970"]}),
        ("add some jazz", ["some rock"], {"genre": ["rock", "jazz"]}),
        ("too aggressive", ["some rock"], {"genre": ["rock"]}),
        ("another genre", ["90s rock"], {"decade": ["1990s"]}),
        ("to study to", ["some rock"], {"genre": ["rock"], "mood": ["calm"]}),
        ("for a coffee break", ["jazz for dinner"], {"genre": ["jazz"], "mood": ["calm"]}),
        ("for dinner", ["calm"], {"mood": ["calm"]}),
        ("for dinner", ["for a walk"], {}),
        ("same but in French", ["90s rock"], {"genre": ["rock"], "decade": ["1990s"], "language": ["French"]}),
    ],
)
def test_a_turn_changes_the_turns_before_it(catalogue, text, history, wanted):
    assert read(catalogue, text, history).wanted == wanted


def test_overridden_words_of_earlier_turns_are_gone(catalogue):
    assert read(catalogue, "no, jazz", ["some rock"]).texts == ["no, jazz"]
    assert "90s" not in " ".join(read(catalogue, "make it the 80s instead", ["90s rock for a party"]).texts)
    assert "rock" in read(catalogue, "now jazz for the evening walk", ["some rock"]).texts[1]


def test_an_artist_who_is_not_here_and_has_the_name_of_a_condition_is_none(catalogue):
    reading = read(catalogue, "Jazz ohne Gesang")
    assert reading.wanted == {"genre": ["jazz"], "voice": ["instrumental"]} and not reading.missing


def test_another_genre_rejects_that_of_the_turns_before(catalogue):
    assert read(catalogue, "a different genre please", ["90s rock"]).unwanted == {"genre": ["rock"]}
    assert read(catalogue, "another decade", ["90s rock"]).unwanted == {"decade": ["1990s"]}


def test_figures_that_the_catalogue_knows_are_not_encoded(catalogue):
    assert read(catalogue, "120-130 bpm rock from the 90s").texts == ["rock"]


def test_something_else_asks_for_the_next_answer(catalogue):
    again = read(catalogue, "something else please", ["90s rock", "more"])
    assert again.skipped == 2 and again.texts == ["rock"] and again.wanted["decade"] == ["1990s"]
    assert not read(catalogue, "something else").skipped


def test_years_are_not_encoded_where_the_catalogue_has_dates(catalogue):
    assert read(catalogue, "sad piano from the 90s").texts == ["sad piano"]
    assert read(catalogue, "the 90s").texts == ["the 90s"]  # there is nothing else to encode


@pytest.mark.parametrize(("text", "weights"), [("no, faster", [0.25, 1]), ("jazz for a walk", [1, 0.4])])
def test_a_turn_that_only_changes_conditions_has_less_weight_than_the_turn_before_it(catalogue, text, weights):
    assert read(catalogue, text, ["sad piano"]).weights.tolist() == pytest.approx(weights)


def read(catalogue, text: str, history=()) -> query.Reading:
    return query.read(catalogue.names, catalogue.facts, catalogue.artists, text, history)


def test_songs_like_a_local_artist_are_of_the_genre_not_of_the_name(catalogue):
    assert read(catalogue, "songs like The Lanterns").texts == ["indie rock"]
    assert "The Lanterns" in read(catalogue, "sad songs for a long drive, like The Lanterns").texts[0]
    local = read(catalogue, "songs like Marta Quiroga but faster")
    assert local.texts == ["songs like hip hop but faster"] and local.wanted["genre"] == ["hip hop"]


def test_an_instrument_is_no_misspelt_artist(catalogue):
    assert not read(catalogue, "harp").named and not read(catalogue, "lute").named


def test_a_mood_beside_a_name_is_a_condition(catalogue):
    assert read(catalogue, "calm Ivo Brandt").wanted == {"mood": ["calm"], "artist": ["Ivo Brandt"]}
    assert read(catalogue, "Ivo Brandt, calm").wanted == {"mood": ["calm"], "artist": ["Ivo Brandt"]}


def test_a_negated_word_lowers_the_tracks_whose_text_has_it(catalogue):
    reading, rows = read(catalogue, "without boats"), np.arange(6)
    plain = fusion.Query(np.zeros(64, np.float32), reading, np.zeros(0, int), np.zeros(0, int))
    scores = catalogue.score(plain, rows, np.full(6, 0.5, np.float32))[0]
    absent = catalogue.score(plain._replace(absent=catalogue.words.find(["boats"])), rows, np.full(6, 0.5, np.float32))[
        0
    ]
    assert (absent / scores).tolist() == pytest.approx([fusion.WITH, 1, 1, 1, 1, 1])


def test_an_instrument_lowers_the_tracks_whose_text_lacks_it(catalogue):
    assert instruments_of(["sad Cellos and a sax", "piano"]) == [["cello", "cellos", "cellist"], INSTRUMENTS["sax"]]
    assert instruments_of(["faster", "sad piano"]) == [INSTRUMENTS["piano"]] and not instruments_of(["sad"])
    reading, rows = read(catalogue, "boats"), np.arange(6)
    plain = fusion.Query(np.zeros(64, np.float32), reading, np.zeros(0, int), np.zeros(0, int))
    asked = plain._replace(instruments=(catalogue.words.find(["boats"]),))
    scores, lowered = (catalogue.score(q, rows, np.full(6, 0.5, np.float32))[0] for q in (plain, asked))
    assert (lowered / scores).tolist() == pytest.approx([1, *[fusion.WITHOUT] * 5])


def test_a_wish_in_another_language_is_a_mood_and_encoded_as_one(catalogue):
    assert read(catalogue, "Musik zum Einschlafen").wanted == {"mood": ["calm"]}
    assert read(catalogue, "ruhige Lieder").texts == ["calm Lieder"]
    assert read(catalogue, "songs for a coffee shop").texts == ["songs for a calm"]
    assert read(catalogue, "ruhige Lieder, unruhig").texts == ["calm Lieder, unruhig"]
    assert read(catalogue, "not too heavy rock").wanted == {"genre": ["rock"]}


def test_met_conditions_are_counted_but_moods(catalogue):
    met = [catalogue.met(read(catalogue, text), np.array([2, 5])) for text in ("calm", "90s hip hop", "no jazz, 90s")]
    assert np.array(met).tolist() == [[0, 0], [1, 0], [1, 0]]


def test_a_rejected_instrument_leaves_the_turns_before(catalogue):
    assert read(catalogue, "no piano", ["sad piano"]).texts[1:] == ["sad"]


def test_a_condition_can_be_taken_back(catalogue):
    reading = read(catalogue, "any decade", ["jazz from the 90s"])
    assert reading.wanted == {"genre": ["jazz"]} and reading.refines
    assert "decade" not in read(catalogue, "jazz, whatever era", ["not from the 90s"]).unwanted


def test_somebody_else_is_not_the_artist_before(catalogue):
    for text in ("somebody else please", "other artists", "another band", "not this artist"):
        reading = read(catalogue, text, ["rock by The Lanterns"])
        assert reading.wanted == {"genre": ["rock"]} and reading.understood["not"] == {"artist": ["The Lanterns"]}
        assert not reading.named and [m.name for m in reading.rejected] == ["The Lanterns"]
        assert [m.name for m in reading.alike] == ["The Lanterns"]  # others like them


def test_a_note_says_that_an_artist_has_no_more_tracks(catalogue):
    reading = read(catalogue, "something else", ["something by The Lanterns"])
    asked = fusion.Query(np.zeros(64, np.float32), reading, np.zeros(0, int), np.zeros(0, int))
    assert catalogue.note(asked, np.array([0, 5]), [0.9, 0.5]) is None
    assert catalogue.note(asked, np.array([4, 5]), [0.9, 0.5]) == "There is nothing more by The Lanterns."


def test_a_wish_replaces_the_feeling_before(catalogue):
    reading = read(catalogue, "something calming", ["I'm anxious"])
    assert reading.wanted == {"mood": ["calm"]} and reading.texts == ["something calm"]


@pytest.mark.parametrize("text", ["start over, jazz", "never mind, jazz"])
def test_a_new_start_forgets_the_turns_before(catalogue, text):
    reading = read(catalogue, text, ["rock from the 90s", "faster"])
    assert reading.wanted == {"genre": ["jazz"]} and len(reading.texts) == 1


def test_older_than_a_decade(catalogue):
    assert read(catalogue, "older than the 70s", ["jazz from the 90s"]).wanted["decade"] == ["before 1970"]


def test_and_adds_a_genre_but_no_tempo(catalogue):
    assert read(catalogue, "and jazz", ["rock"]).wanted == {"genre": ["rock", "jazz"]}
    assert read(catalogue, "or from the 80s", ["rock from the 90s"]).wanted["decade"] == ["1990s", "1980s"]
    assert read(catalogue, "and slower", ["fast rock"]).wanted == {"tempo": ["slow"], "genre": ["rock"]}


@pytest.mark.parametrize("text", ["more by this artist", "songs by the same band", "something from them"])
def test_more_by_the_artist_of_a_title(catalogue, text):
    reading = read(catalogue, text, ["play Night Ferry"])
    assert reading.wanted == {"artist": ["The Lanterns"]} and [m.name for m in reading.named] == ["The Lanterns"]
    assert len(reading.texts) == 1 or "Ferry" not in reading.texts[1]


def test_no_vocals_keeps_the_occasion_of_the_turn_before(catalogue):
    reading = read(catalogue, "no vocals", ["study music"])
    assert reading.refines and reading.texts == ["instrumental", "calm"]


def test_never_mind_takes_back_what_it_names(catalogue):
    reading = read(catalogue, "never mind the french", ["rock in french"])
    assert "language" not in reading.wanted and reading.wanted["genre"] == ["rock"]
