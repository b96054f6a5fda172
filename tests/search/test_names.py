"""Names in requests: recognised as written, shortened and misspelt, and only with evidence where words are ordinary."""

import numpy as np
import pandas as pd
import pytest

from lib.search.names.index import FOLDER, write_names
from lib.search.names.mentions import Mention, Names

TRACKS = pd.DataFrame(
    [
        ("Purple Lantern Parade", "The Velvet Orchards", "Lanterns"),
        ("Slow Tide (Live)", "The Velvet Orchards", "Lanterns"),
        ("Slow Tide - Remastered 2011", "The Velvet Orchards", "Lanterns"),
        ("Happy", "Björn Ångstrand", "Happy"),
        ("Sad", "Future", "Dance"),
        ("Music", "Train", "Rock"),
        ("Quillfeather", "Marlowe Pennington", "Quillfeather"),
        ("Rivers of Glass", "Marlowe Pennington, Odette Quincey, Björn Ångstrand", "Glass Works"),
        ("Undertow", "Tyler, The Maker", "Undertow"),
        ("Zenith", "Quillfeather", "Night Ferry"),
        ("Bolt", "AX/BY", "Bolt"),
        ("Four Corners", "Ruby Hollow Canyon Pilots", "Four Corners"),
        ("Kettle (feat. Future)", "K$sha Nimm", "Steam"),
        ("砂時計", "風見鶏", None),
        ("In", "Yes", "Yes"),
        ("I Want It That Way Now", "Common", "Ordinary"),
        ("Paper Windows", "The 1975", "Paper"),
        ("Tin Roof", "River", "Tin"),
        ("Tin Door", "The Mountains", "Tin"),
        ("Tin Cup", "The Birthday Party", "Tin"),
        ("Tin Can", "Insomnium", "Tin"),
    ],
    columns=["title", "artist", "album"],
)


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """Return the names of TRACKS."""
    folder = tmp_path_factory.mktemp("index")
    write_names(folder, TRACKS)
    return Names(folder)


def mentions(names, text: str) -> list[tuple[str, str]]:
    """Return the kind and name of each mention, in order; check the places."""
    result = names.mentions(text)
    ends = [0, *(m.end for m in result)]
    assert all(end <= m.start < m.end <= len(text) for end, m in zip(ends, result, strict=False))
    return [(m.kind, m.name) for m in result]


@pytest.mark.parametrize(
    "text", ["songs from 1975", "in 1975", "rock since 1975", "something before 1975", "between 1970 and 1975"]
)
def test_a_year_is_no_artist(names, text):
    assert mentions(names, text) == []


@pytest.mark.parametrize(
    "text", ["a walk by the river", "in the mountains", "birthday party music", "can't sleep, insomnia"]
)
def test_places_and_occasions_are_no_artists(names, text):
    assert mentions(names, text) == []


@pytest.mark.parametrize(
    ("text", "artist"),
    [
        ("something by River", "River"),
        ("songs by the mountains", "The Mountains"),
        ("play The Birthday Party", "The Birthday Party"),
        ("something by insomnum", "Insomnium"),
    ],
)
def test_artists_of_ordinary_words(names, text, artist):
    assert mentions(names, text) == [("artist", artist)]


@pytest.mark.parametrize("text", ["something by The 1975", "play the 1975", "songs by 1975", "songs from the 1975"])
def test_an_artist_may_be_called_by_a_year(names, text):
    assert mentions(names, text) == [("artist", "The 1975")]


ORCHARDS, BJORN, MARLOWE = "The Velvet Orchards", "Björn Ångstrand", "Marlowe Pennington"


@pytest.mark.parametrize(
    ("text", "artist"),
    [
        ("something by The Velvet Orchards", ORCHARDS),
        ("play some velvet orchards", ORCHARDS),
        ("more velvet orchads please", ORCHARDS),  # a letter is missing
        ("songs like the vlevet orchards", ORCHARDS),  # two letters are swapped
        ("anything by bjorn angstrand?", BJORN),
        ("BJÖRN ÅNGSTRAND", BJORN),
        ("bjorn angstrand's songs", BJORN),
        ("marlow penington", MARLOWE),
        ("I love axby", "AX/BY"),
        ("something by ax by", "AX/BY"),
        ("some RHCP would be nice", "Ruby Hollow Canyon Pilots"),
        ("songs by odette quincey", "Odette Quincey"),
        ("play pennington", MARLOWE),
        ("something by Tyler, the maker", "Tyler, The Maker"),
        ("風見鶏", "風見鶏"),
        ("songs by future", "Future"),
        ("artists like train", "Train"),
        ("something by Yes.", "Yes"),
        ("common", "Common"),
    ],
)
def test_an_artist_is_recognised(names, text, artist):
    assert mentions(names, text) == [("artist", artist)]


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("play Purple Lantern Parade", "Purple Lantern Parade"),
        ("play prple lantern parade", "Purple Lantern Parade"),
        ("put on slow tide", "Slow Tide"),
        ("play slow tide (live)", "Slow Tide (Live)"),
        ("the song rivers of glass", "Rivers of Glass"),
        ('do you have "Happy"?', "Happy"),
        ("a song called music", "Music"),
        ("play i want it that way now", "I Want It That Way Now"),
        ("play quillfeather", "Quillfeather"),
        ("play kettle", "Kettle"),
    ],
)
def test_a_title_is_recognised(names, text, title):
    assert mentions(names, text) == [("title", title)]


def test_cues_choose_between_names_of_the_same_spelling(names):
    assert mentions(names, "something by quillfeather") == [("artist", "Quillfeather")]
    assert mentions(names, "artists like quillfeather") == [("artist", "Quillfeather")]
    assert mentions(names, "quillfeather") == [("artist", "Quillfeather")]
    assert mentions(names, "the album quillfeather") == [("album", "Quillfeather")]


@pytest.mark.parametrize("text", ["DJ Ladder", "dj lader", "I like DJ Ladder but slower", "something by dj lader"])
def test_the_longest_of_names_inside_each_other_counts(tmp_path, text):
    artists = ["DJ Ladder", "Ladder", "Vader", "DJ Mirror"]
    write_names(tmp_path, pd.DataFrame({"title": ["One", "Two", "Three", "Four"], "artist": artists}))
    assert [mention.name for mention in Names(tmp_path).mentions(text)] == ["DJ Ladder"]


def test_a_title_and_its_artist_are_recognised_together(names):
    assert mentions(names, "play happy by bjorn angstrand") == [("title", "Happy"), ("artist", BJORN)]
    assert mentions(names, "velvet orchards slow tide") == [("artist", ORCHARDS), ("title", "Slow Tide")]


def test_a_name_at_the_end_of_a_long_request_is_recognised(names):
    text = "I like quiet evenings. " * 20 + "More velvet orchads please"
    assert mentions(names, text) == [("artist", ORCHARDS)]


def test_a_list_of_artists_is_recognised(names):
    text = "more Marlowe Pennington, Future and Train"
    assert mentions(names, text) == [("artist", MARLOWE), ("artist", "Future"), ("artist", "Train")]


@pytest.mark.parametrize(
    "text",
    [
        "happy music",
        "play happy songs",
        "play some sad music for dancing",
        "dance music for a train ride",
        "rock",
        "I like rock, and the future of music",
        "yes, more like this please",
        "songs for the way to work in common rooms",
        "hapy songs",
        "something slow with piano",
        "",
        "?!",
        "\n",
    ],
)
def test_ordinary_words_are_no_names(names, text):
    assert mentions(names, text) == []


def test_a_title_may_be_a_mood_too(names):
    assert [(m.kind, m.name, m.sure) for m in names.mentions("happy")] == [("title", "Happy", False)]
    assert [m.sure for m in names.mentions("a song called happy")] == [True]


@pytest.mark.parametrize(
    "text",
    [
        "could you put slow tide on",
        "find me rivers of glas",
        "let me hear undertwo",
        "add slow tde to the queue",
        "start with sliw tide",
        "zenith please",
        "got any undertow?",
    ],
)
def test_titles_are_recognised_in_other_words_and_misspelt(names, text):
    assert [m.kind for m in names.mentions(text)] == ["title"]


def test_a_mention_has_its_place_and_its_rows(names):
    text = "Hey, some velvet orchads's songs"
    mention = names.mentions("Hey, some Björn Ångstrand's songs")[0]
    assert (mention.start, mention.end) == (10, 25) and names.rows(mention).tolist() == [3, 7]
    assert names.rows(names.mentions(text)[0]).tolist() == [0, 1, 2]
    assert names.rows(Mention("title", "Slow Tide", 0, 0)).tolist() == [1, 2]
    assert names.rows(Mention("title", "Slow Tide (Live)", 0, 0)).tolist() == [1]
    assert names.rows(Mention("artist", "velvet orchards", 0, 0)).tolist() == []
    assert names.rows(Mention("album", "Lanterns", 0, 0)).tolist() == [0, 1, 2]
    assert not len(names.rows(Mention("artist", "Nobody", 0, 0)))


def test_the_files_are_mapped_and_columns_may_lack(tmp_path):
    write_names(tmp_path, TRACKS[["title"]])
    names = Names(tmp_path)
    assert [m.kind for m in names.mentions("play Purple Lantern Parade")] == ["title"]
    assert isinstance(np.load(tmp_path / FOLDER / "keys.npy", mmap_mode="r"), np.memmap)
    write_names(tmp_path, TRACKS.iloc[:0])
    assert Names(tmp_path).mentions("play Purple Lantern Parade by Future") == []
