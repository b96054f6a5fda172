"""A turn of a conversation, read by the catalogue's words, names and conditions."""

import re
from itertools import chain
from typing import NamedTuple

import numpy as np

from lib.search.artists import Artists
from lib.search.conditions.facts import Facts
from lib.search.conditions.vocabulary import DATA
from lib.search.names.mentions import Mention, Names
from lib.search.names.odds import COMMON
from lib.search.names.words import words
from lib.search.words import FILLERS, split

# The weight of the turn before the request (0.3 to 0.5 were equally good for real conversations), of each turn before
# that one by the next, and of a request that only changes conditions: "faster" after "sad piano" should stay sad.
BEFORE, FADING, REFINING = 0.4, 0.7, 0.25
LIKE = re.compile(
    r"\b((?<!i )(?<!would )(?<!['’]d )like|similar to|sounds? like|style of|vein of|reminds? me of|fans of)\W*$", re.I
)
STYLE = re.compile(r"(['’]s)?[ -]+(style|type|esque|ish|vibes?|sounding|inspired)\b|-like\b", re.I)  # after a name
# The artist in "by Kraftwerk" or "something by kraftwerk", but not in "by the sea".
BY = re.compile(
    r"\b(?:(?i:something|anything) by|by(?! \w+day\b)(?= [^\W\da-z]))\s+(\w[\w'&.-]*(?: [^\W\da-z][\w'&.-]*)*)"
)
# The title in quotation marks, in "the song called purple rain", or in "play Purple Rain".
CALLED = re.compile(
    r"[\"“«]([^\"”»]+)[\"”»]|\b(?i:(?:song|track|tune)s? (?:called|titled|named)) (.+?)(?= by\b|[.,;!?]|$)"
    r"|^(?i:(?:please |can you )*play) ([^\W\da-z]\S+(?: \S+)*? [^\W\da-z]\w+)(?= by\b|[.,;!?]|$)"
    r"|\b(?i:songs?|something|anything|music|tracks?) (?i:like) ([^\W\da-z]\S+(?: \S+)*? [^\W\da-z]\w+)(?=[.,;!?]|$)"
)
ALSO = re.compile(r"^\W*(and|or|&|,)*\W*(the\s+)?$", re.I)


class Phrase(NamedTuple):
    """Words of a turn that name a condition, or a name that is asked for."""

    text: str
    condition: str
    value: str


class Reading(NamedTuple):
    """A request as search understands it. The first text is the request's own, without its negated parts."""

    texts: list[str]  # to encode: of the request, of the turn before it, and so on
    wanted: dict[str, list[str]]  # condition or kind of name -> values, of which any fits
    unwanted: dict[str, list[str]]
    negated: list[str]  # the negated phrases as typed
    named: list[Mention]  # the names that are asked for
    alike: list[Mention]  # the names that stand for others like them
    rejected: list[Mention]
    missing: list[str]  # artists and titles that the catalogue does not have: "by X", "called Y"
    faded: frozenset[str] = frozenset()  # wanted conditions of earlier turns, which count less
    refines: bool = False  # the request only changes conditions of the turns before it: "no, faster"
    wishes: bool = False  # it asks for a mood, as no turn before it
    skipped: int = 0  # answers that the listener has seen: "something else"

    @property
    def weights(self) -> np.ndarray:
        """The weights of the texts. -> (texts,) float32."""
        own, before = (REFINING, 1) if self.refines and not self.wishes else (1, BEFORE)
        return np.array([own, *(before * FADING**i for i in range(len(self.texts) - 1))], np.float32)

    @property
    def understood(self) -> dict:
        """The conditions and names as the API returns them: {"genre": ["rock"], "not": {"tempo": ["slow"]}}."""
        return self.wanted | ({"not": self.unwanted} if self.unwanted else {})


def read_turn(names: Names, facts: Facts, artists: Artists, text: str) -> tuple[Reading, list[Phrase]]:
    """Read one turn. -> the reading, and the phrases by which it names what is wanted."""
    mentions = [m for m in names.mentions(text) if _is_name(m, text[m.start : m.end], names, facts)]
    spans = [(m.start, m.end) for m in mentions]
    known = facts.understand(text, [(m.start, m.end) for m in mentions if m.sure])
    uses = {"named": [], "alike": [], "rejected": []}
    wanted, unwanted, missing = dict(known.wanted), dict(known.unwanted), []
    before, use = 0, "named"
    for mention in mentions:
        if not (before and ALSO.match(text[before : mention.start])):  # "like X, Y and Z"
            like = LIKE.search(text[: mention.start]) or STYLE.match(text[mention.end :])
            use = "alike" if like else "named"
        rejected = any(start < mention.end and mention.start < end for start, end in known.spans)
        absent = use == "named" and not rejected and not len(names.rows(mention))
        uses["rejected" if rejected else "alike" if absent else use].append(mention)
        (unwanted if rejected else wanted).setdefault(mention.kind, []).append(mention.name)
        missing += [f"by {mention.name}"] * absent
        before = mention.end
    free = (m for m in BY.finditer(text) if not any(start < m.end() and m.start(1) < end for start, end in spans))
    missing += [f"by {m[1]}" for m in free if set(split(m[1])) - FILLERS]
    spans += [(item.start, item.end) for item in known.items]
    for called in CALLED.finditer(text):
        start, end = called.span(called.lastindex)
        common = [word in COMMON for word in split(text[start:end])]
        kind = any(common) if called.lastindex > 2 else all(common)  # "play Classic Rock", "something 'chill'"
        if not kind and not any(a < end and start < b for a, b in spans):
            missing.append(f"called {text[start:end]}")
    local = [m for m in uses["alike"] if not artists.about(m, "genres")]  # whom only the catalogue knows
    genres = dict.fromkeys(filter(None, (facts.genre_of(names.rows(m)) for m in local)))
    if genres and "genre" not in wanted:  # "songs like X, but faster" are of X's genre
        wanted["genre"] = [*genres]
    known.text = _alike(known.text, text, uses["alike"], names, facts, artists)
    phrases = [Phrase(text[i.start : i.end], i.condition, i.value) for i in known.items]
    opposites = {*DATA["opposites"].values()}  # "no vocals" is left as "instrumental"
    phrases += [
        Phrase(value, c, value) for c, values in known.wanted.items() for value in opposites.intersection(values)
    ]
    phrases += [Phrase(text[m.start : m.end], m.kind, m.name) for m in uses["named"]]
    return Reading([known.text], wanted, unwanted, known.negated, **uses, missing=missing), phrases


def _is_name(mention: Mention, typed: str, names: Names, facts: Facts) -> bool:
    """Return False if words of conditions or an instrument were read as a name that is misspelt or not there."""
    if words(typed) == words(mention.name):
        return typed not in facts.vocabulary or len(names.rows(mention)) > 0
    return typed not in facts.vocabulary and not facts.vocabulary.words.issuperset(words(typed))


def _alike(rest: str, text: str, mentions: list[Mention], names: Names, facts: Facts, artists: Artists) -> str:
    """Return what is left of a text, with genres for names that stand for others like them: they say more.

    If the request says something else, too, a name stays that the world and the catalogue know.
    """
    genres = {text[m.start : m.end]: artists.about(m, "genres") for m in mentions}
    bare = rest
    for name in genres:
        bare = bare.replace(name, "")
    if not set(split(bare)) - FILLERS:  # "songs like Little Clock", which would find other clocks
        own = (facts.genre_of(names.rows(m)) for m in mentions)
        return ", ".join(dict.fromkeys(filter(None, (*chain(*genres.values()), *own)))) or rest
    for mention in mentions:
        typed, rows = text[mention.start : mention.end], names.rows(mention)
        known = ", ".join(genres[typed]) if genres[typed] else facts.genre_of(rows)
        if known and not (genres[typed] and len(rows)):
            rest = rest.replace(typed, known)
    return rest
