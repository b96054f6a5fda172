"""The odds that words of a request are a name: how rare the words are, the words around them, quotes and capitals."""

import re
from functools import lru_cache
from itertools import pairwise

from lib.search.names.index import INITIALS, KINDS, PART, SHORTER
from lib.search.names.lookup import Match
from lib.search.names.words import WORDING, frequency, tokens

ARTIST, TITLE, ALBUM = range(3)
ODDS = WORDING["odds"]
AROUND = frozenset(WORDING["around"].split())
ENDS = frozenset(WORDING["ends"])
LINKS = frozenset(WORDING["links"])
WEIGHTS = ODDS["weights"]
GROUPS = ("feelings_and_occasions", "kinds_of_music", "polite", "references", "music")
COMMON = {word: ODDS[group] for group in GROUPS for word in WORDING[group].split()}
SMALL = frozenset("a an and at de for in la le my of on or the to with".split())  # noqa: SIM905
PAUSE = re.compile(r"[.!?;\n(){}\[\]|,:]|\s[-–—]\s")
STOP = re.compile(r"[.!?;\n|]")
MARKS, SINGLE = '"“”„«»「」『』', "'‘’"
QUOTED = re.compile(
    rf"[{MARKS}]([^{MARKS}]+)[{MARKS}]|(?<!\w)[{SINGLE}]([^{SINGLE}]+(?:[{SINGLE}]\w[^{SINGLE}]*)?)[{SINGLE}](?!\w)"
)
POSSESSIVE = re.compile(r"['’`´]s$", re.IGNORECASE)
YEAR = re.compile(r"19[1-9]\d|20[0-4]\d")
DATING = frozenset("from in of since before after until around circa between".split())  # noqa: SIM905
ARTICLES = frozenset({"the", "a", "an"})  # "the river" is not River
PLACES = frozenset("in at on to through near along down out into over under".split())  # noqa: SIM905 "in the mountains"
MUSICAL = frozenset([*WORDING["music"].split(), "something", "anything", "some", "more", "stuff", "hits"])
CUED = frozenset({"own cue", "cue artist", "cue title", "cue album"})
REACH = 7  # words before a name that are read
SHORT = 16  # words of a request, each of which may be misspelt
FOLLOWING = 5  # words after a cue that may be misspelt, in a longer request
RARE = 3.0  # the frequency below which they may be without a cue


def _cues(kind: str, cues: list[str]) -> re.Pattern:
    """Return the pattern of words that end with a cue, and words between it and a name."""
    between = "|".join(WORDING["between_artists" if kind == "artist" else "between"])
    return re.compile(f"(?:^| )(?:{'|'.join(cues)})(?: (?:{between}))*$")


BEFORE = {kind: _cues(kind, cues) for kind, cues in WORDING["before"].items()}
AFTER_ARTIST = re.compile(f"(?:{'|'.join(WORDING['after_artist'])})$")


@lru_cache(maxsize=1 << 16)
def rarity(word: str) -> float:
    """Return how rare a word is in requests: the negative logarithm of its share, base 10."""
    share = 9 - frequency(word) if frequency(word) else ODDS["unknown"]
    short = len(word) == 1 or word.isdigit()
    return min(share, COMMON.get(word, ODDS["unknown"]), ODDS["letter"] if short else share)


class Request:
    """A request's words, and what around them speaks for names."""

    def __init__(self, text: str, most: int):
        self.text = text
        self.tokens = tokens(text)[:most]
        self.words = [token.word for token in self.tokens]
        typed = [text[token.start : token.end] for token in self.tokens]
        self.owners = {i: w[:-1] for i, w in enumerate(self.words) if POSSESSIVE.search(typed[i]) and w[:-1]}
        self.capital = [word[0].isupper() for word in typed]
        ends = [0, *(token.end for token in self.tokens)]
        # Before each word: a sentence begins; a pause, also at the end.
        self.starts = [not i or bool(STOP.search(text, ends[i], t.start)) for i, t in enumerate(self.tokens)]
        breaks = [bool(PAUSE.search(text, a.end, b.start)) for a, b in pairwise(self.tokens)]
        self.pauses = [True, *breaks, True]
        quotes = [m.span(1 if m[1] else 2) for m in QUOTED.finditer(text)]
        inside = [[i for i, t in enumerate(self.tokens) if a <= t.start and t.end <= b] for a, b in quotes]
        self.quoted = {(places[0], places[-1] + 1) for places in inside if places}
        self._features = {}

    def place(self, first: int, last: int, word: str = "") -> tuple[int, int]:
        """Return the characters of the words first, …, last - 1, without a possessive s that `word` lacks."""
        possessive = last - 1 in self.owners and self.owners[last - 1] == word
        return self.tokens[first].start, self.tokens[last - 1].end - 2 * possessive

    def doubtful(self) -> list[int]:
        """Return the places of words that may be misspelt."""
        core = [i for i, word in enumerate(self.words) if word not in AROUND] or [0, len(self.words) - 1]
        letters = [i for i in range(core[0], core[-1] + 1) if not self.words[i].isdigit()]
        if len(self.words) <= SHORT:
            return letters
        near = {place for i in letters if self.cues(i) - {"any"} for place in range(i, i + FOLLOWING)}
        rare = {i for i in letters if len(self.words[i]) > 3 and frequency(self.words[i]) < RARE}
        near |= {place for i in rare for place in (i - 1, i, i + 1)}
        return [i for i in letters if i in near]

    def cues(self, first: int) -> set[str]:
        """Return the kinds of cues before a place, in the same sentence."""
        start = first
        while start > max(0, first - REACH) and not self.starts[start]:
            start -= 1
        before = " ".join(self.words[start:first])
        return {kind for kind, cue in BEFORE.items() if cue.search(before)} if before else set()

    def listed(self, end: int, start: int) -> bool:
        """Return True if only a comma or "and" separates two names."""
        between = self.words[end:start]
        comma = start >= end and "," in self.text[self.tokens[end - 1].end : self.tokens[start].start]
        return between in (["and"], ["or"], ["nor"]) or (comma and between in ([], ["the"]))

    def link(self, end: int, start: int, artist_first: bool) -> float:
        """Return the weight of two names with a track in common, the second of which starts after the first ends."""
        between = self.words[end:start]
        if between == ["by"] and not artist_first:
            return WEIGHTS["by"]
        return WEIGHTS["linked"] if not between or between[0] in LINKS else 0

    def features(self, first: int, last: int, kind: int) -> list[str]:
        """Return the weights for an artist, a title or an album at the words first, …, last - 1."""
        key = (first, last, kind)
        if key not in self._features:
            self._features[key] = self._around(*key)
        return self._features[key]

    def _around(self, first: int, last: int, kind: int) -> list[str]:
        cues, own = self.cues(first), KINDS[kind]
        after = self.words[last] if not self.pauses[last] else ""
        follows = bool(AFTER_ARTIST.match(after))
        alone = AROUND.issuperset(self.words[:first] + self.words[last:]) and not (follows and kind != ARTIST)
        parts = {
            own: True,
            "own cue": own in cues,
            "other cue": own not in cues and not cues <= {"ask", "any"},
            f"cue {own}": "ask" in cues,
            f"alone {own}": alone,
            "inside before": not cues and not self.pauses[first] and self.words[first - 1] not in AROUND,
            "inside after": bool(after) and after not in ENDS and not follows,
            "other after": follows and kind != ARTIST,
            "quoted": (first, last) in self.quoted,
            "capitals": self.capitals(first, last),
        }
        return [part for part, holds in parts.items() if holds]

    def capitals(self, first: int, last: int) -> bool:
        """Return True if the words are in capitals in a request that is in lower case otherwise."""
        large = [i for i in range(first, last) if self.words[i] not in SMALL]
        if not large or not all(self.capital[i] or self.words[i][:1].isdigit() for i in large):
            return False
        rest = [i for i, word in enumerate(self.words) if not (first <= i < last or self.starts[i] or word == "i")]
        others = [self.capital[i] for i in rest]
        marked = any(not self.starts[i] and self.words[i] != "i" for i in large)
        return marked and 2 * sum(others) <= len(others) and (bool(others) or not self.capital[0])


def features(match: Match, kind: int, request: Request, share: float) -> dict[str, float] | None:
    """Return all that speaks for and against a match: what -> amount. None if it is no mention whatever the odds."""
    typed, name = request.words[match.first : match.last], match.words
    joined, letters = "".join(typed), sum(map(len, name))
    before = request.words[max(0, match.first - 2) : match.first]
    if YEAR.fullmatch(joined) and (
        DATING & {*before[-1:]} or any(map(YEAR.fullmatch, before))
    ):  # "from 1975": The 1975
        return None
    if kind == ARTIST and match.form == SHORTER and typed[0] != "the" and joined.startswith("the"):  # "theses": "Ses"
        return None
    if match.form in (PART, INITIALS) and len(typed) > 1:
        return None
    if match.form == INITIALS and (len(joined) < 3 or joined in COMMON or frequency(joined)):
        return None
    about = dict.fromkeys(request.features(match.first, match.last, kind), 1.0)
    if not {"quoted", "capitals"} & {*about} and _is_ordinary(match, kind, typed, before, about):
        return None
    rare = sum(map(rarity, typed))
    if len(typed) > 1 and frequency(joined):  # "so ngs"
        rare = min(rare, rarity(joined))
    if match.edits:
        changed = [(a, b) for a, b in zip(typed, name, strict=True) if a != b]
        if letters < 5 + 4 * (match.edits > 1) or any(re.findall(r"\d", a) != re.findall(r"\d", b) for a, b in changed):
            return None
        about["english"] = sum(max(0.0, frequency(a) - RARE) for a, _ in changed)
        rare = min(rare, sum(map(rarity, name)))
    if len(typed) == 1 and f"alone {KINDS[kind]}" in about:
        about["alone word"] = 1.0
    return about | {"rarity": rare, "share": share, "part": float(match.form == PART)}


def _is_ordinary(match: Match, kind: int, typed: list[str], before: list[str], about: dict) -> bool:
    """Return True for ordinary words that mean a thing or an occasion: "in the mountains", "birthday party"."""
    if match.edits and "own cue" not in about and len(typed) == 1 and frequency(typed[0]):  # "insomnia": Insomnium
        return True
    cue = not CUED.isdisjoint(about)
    if kind != ARTIST or not all(frequency(word) > RARE for word in match.words):
        return False
    if match.form == SHORTER and not cue and all(word in COMMON for word in match.words):
        return True
    one, two = ["", "", *before][-2:]
    return two in PLACES or (two == "by" and one not in MUSICAL) if typed[0] == "the" else two in ARTICLES


def odds(about: dict[str, float]) -> float:
    """Return the logarithm of the odds, base 10, that a match is a mention."""
    return WEIGHTS["all"] + sum(WEIGHTS.get(name, 0) * amount for name, amount in about.items())


def plain(match: Match, kind: int, request: Request) -> bool:
    """Return True if a name's words are as likely a condition of the request: no cue of its kind, no quotes."""
    about = request.features(match.first, match.last, kind)
    return all(word in COMMON for word in match.words) and not {"own cue", "quoted"} & {*about}
