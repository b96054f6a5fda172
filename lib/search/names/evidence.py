"""Evidence that words of a request are a name: the words around them, quotation marks and capitals."""

import re
from itertools import pairwise

from lib.search.names.index import KINDS
from lib.search.names.lookup import Match
from lib.search.names.needs import (
    ARTIST,
    CERTAIN,
    FREQUENT,
    KINDS_OF_MUSIC,
    NONE,
    OWN,
    PLAIN,
    SMALL,
    SOME,
    STRONG,
    SURE,
)
from lib.search.names.words import WORDING, frequency, tokens

AROUND = frozenset(WORDING["around"].split())
ENDS = frozenset(WORDING["ends"])
LINKS = frozenset(WORDING["links"])
PAUSE = re.compile(r"[.!?;\n(){}\[\]|,:]|\s[-–—]\s")
STOP = re.compile(r"[.!?;\n|]")
MARKS, SINGLE = '"“”„«»「」『』', "'‘’"
QUOTED = re.compile(
    rf"[{MARKS}]([^{MARKS}]+)[{MARKS}]|(?<!\w)[{SINGLE}]([^{SINGLE}]+(?:[{SINGLE}]\w[^{SINGLE}]*)?)[{SINGLE}](?!\w)"
)
POSSESSIVE = re.compile(r"['’`´]s$", re.IGNORECASE)
EXACT = ("title", "album", "play", "called")  # cues that a name follows at once
FOLLOWING = 5  # words after a cue that may be misspelt
REACH = 6  # words before and after a name that are read
RARE = 3.0  # the frequency below which a word may be misspelt without a cue


def _cues(kind: str, cues: list[str]) -> re.Pattern:
    """Return the pattern of words that end with a cue, and words between it and a name."""
    pattern = f"(?:{'|'.join(cues)})"
    between = rf"(?: (?:{'|'.join(WORDING['between' if kind in EXACT else 'between_artists'])}))*$"
    return re.compile(f"(?:^| ){pattern}{between}")


BEFORE = {kind: _cues(kind, cues) for kind, cues in WORDING["before"].items()}
AFTER_ARTIST = re.compile(f"(?:{'|'.join(WORDING['after_artist'])})$")


class Request:
    """A request's words, and the evidence in it for names."""

    def __init__(self, text: str, most: int):
        self.text = text
        self.tokens = tokens(text)[:most]
        self.words = [token.word for token in self.tokens]
        typed = [text[token.start : token.end] for token in self.tokens]
        self.owners = {i: w[:-1] for i, w in enumerate(self.words) if POSSESSIVE.search(typed[i]) and w[:-1]}
        self.capital = [word[0].isupper() for word in typed]
        self.shouted = [word.isupper() for word in typed]
        starts = [not i or bool(STOP.search(text, self.tokens[i - 1].end, t.start)) for i, t in enumerate(self.tokens)]
        self.starts = starts  # of a sentence
        breaks = [bool(PAUSE.search(text, a.end, b.start)) for a, b in pairwise(self.tokens)]
        self.pauses = [False, *breaks, True]  # before each word, and at the end
        self._cues, self._followed, self._evidence = {}, {}, {}
        self.inside = [i for i, word in enumerate(self.words) if not starts[i] and word != "i"]
        self.quoted = [m.span(1 if m[1] else 2) for m in QUOTED.finditer(text)]
        rest = [i for i, word in enumerate(self.words) if word not in AROUND]
        self.core = (rest[0], rest[-1] + 1) if rest else (0, len(self.words))
        joints = [i for i in range(*self.core) if self.words[i] in ("and", "or", "but")]
        self.parts = {(a + 1, b) for a, b in pairwise([self.core[0] - 1, *joints, self.core[1]])}

    def place(self, first: int, last: int, word: str = "") -> tuple[int, int]:
        """Return the characters of the words first, …, last - 1, without a possessive s that `word` lacks."""
        possessive = last - 1 in self.owners and self.owners[last - 1] == word
        return self.tokens[first].start, self.tokens[last - 1].end - 2 * possessive

    def doubtful(self) -> list[int]:
        """Return the places of words that may be misspelt: rare words, and the words that follow a cue."""
        cued = [i for i in range(len(self.words)) if self.cues(i) & {"artist", "title", "album", "either"}]
        near = {place for i in cued for place in range(i, i + FOLLOWING)}
        rare = {i for i, word in enumerate(self.words) if len(word) > 3 and frequency(word) < RARE}
        plain = {i for i, word in enumerate(self.words) if word in PLAIN}
        near |= {place for i in rare for place in (i - 1, i + 1)} - plain
        return [i for i, word in enumerate(self.words) if word.isalpha() and (i in near or i in rare)]

    def typed(self, match: Match) -> tuple[list[str], str | None, bool]:
        """Return the words as typed, the last without a possessive s, and True if only they are in capitals."""
        shouted = self.shouted[match.first] and not all(self.shouted)
        return self.words[match.first : match.last], self.owners.get(match.last - 1), shouted

    def cues(self, first: int) -> set[str]:
        """Return the kinds of cues before a place, in the same sentence."""
        if first not in self._cues:
            start = first
            while start > max(0, first - REACH) and not self.starts[start]:
                start -= 1
            before = " ".join(self.words[start:first])
            self._cues[first] = {kind for kind, cue in BEFORE.items() if cue.search(before)} if before else set()
        return self._cues[first]

    def followed(self, last: int) -> bool:
        """Return True if a word that follows artists follows: "songs", "music"."""
        if last not in self._followed:
            after = self.words[last : last + 1] if not self.pauses[last] else []
            self._followed[last] = bool(after and AFTER_ARTIST.match(after[0]))
        return self._followed[last]

    def ends(self, last: int) -> bool:
        """Return True if a name may end before this word: a pause or a joining word follows."""
        return self.pauses[last] or self.words[last] in ENDS

    def link(self, end: int, start: int, artist_first: bool) -> int:
        """Return the evidence of two names with a track in common, the second of which starts after the first ends."""
        between = self.words[end:start]
        if between == ["by"] and not artist_first:
            return CERTAIN + 1
        return STRONG if not between or between[0] in LINKS else NONE

    def listed(self, end: int, start: int) -> bool:
        """Return True if only a comma or "and" separates two names."""
        between = self.words[end:start]
        joined = start >= end and between in (["and"], ["or"], ["nor"])
        comma = start >= end and "," in self.text[self.tokens[end - 1].end : self.tokens[start].start]
        return joined or (comma and between in ([], ["and"], ["or"], ["the"]))

    def evidence(self, first: int, last: int, kind: int) -> float:
        """Return the evidence that the words first, …, last - 1 name an artist, a title or an album."""
        key = (first, last, kind)
        if key not in self._evidence:
            self._evidence[key] = self._weigh(*key)
        return self._evidence[key]

    def _weigh(self, first: int, last: int, kind: int) -> float:
        if self.quoted and self.quotes(first, last):
            return SURE
        capitals = self.capitals(first, last, kind) if self.capital[first] or self.capital[last - 1] else NONE
        if last - first == 1 and self.inner(first, last):
            return NONE
        words = self.words[first:last]
        alone = first <= self.core[0] and self.core[1] <= last
        cues, cue = self.cues(first), self._cue(first, last, kind)
        sure = alone or (cue > CERTAIN and self.pauses[last])
        if cue % 1 and sure and (last - first > 1 or PLAIN.isdisjoint(words)):
            return SURE - OWN
        if kind != ARTIST and ("by" in cues or self.followed(last)):
            return NONE
        if kind == ARTIST and (first, last) in self.parts:
            capitals = max(capitals, SOME)
        level = STRONG + (not PLAIN.issuperset(words)) if alone else capitals
        return (
            max(level, cue // 1, CERTAIN if capitals and cue >= STRONG else STRONG if capitals and cue else NONE)
            + cue % 1
        )

    def _cue(self, first: int, last: int, kind: int) -> float:
        """Return the evidence of the words around the words first, …, last - 1."""
        cues, ends = self.cues(first), self.ends(last)
        if "artist" in cues:
            if kind == ARTIST:
                return SURE - OWN if "by" in cues and self.pauses[last] else (CERTAIN if ends else STRONG) + OWN
            return NONE if "by" in cues else STRONG if ends else SOME
        if kind != ARTIST and ends and KINDS[kind] in cues:
            return SURE if "called" in cues else STRONG + OWN + ("play" not in cues)
        if "either" in cues and ends:
            return STRONG
        level = SOME if cues & {"any", "title", "either"} else NONE
        if kind == ARTIST and self.followed(last):
            clear = last - 1 in self.owners or (level and frequency(self.words[first]) < FREQUENT)
            return STRONG if clear else SOME
        return level

    def quotes(self, first: int, last: int) -> bool:
        """Return True if quotation marks enclose exactly these words."""
        start, end = self.place(first, last)
        return any(
            a <= start and end <= b and not re.search(r"\w", self.text[a:start] + self.text[end:b])
            for a, b in self.quoted
        )

    def inner(self, first: int, last: int) -> bool:
        """Return True if the words are a part of a longer sequence in capitals: "Bob" of "Bob Marley"."""
        before = first and not self.pauses[first] and self.capital[first - 1] and not self.starts[first - 1]
        after = not self.pauses[last] and self.capital[last] and self.words[last] != "i"
        return bool(before or after) and self.capital[first] and sum(self.capital) <= len(self.words) / 2

    def capitals(self, first: int, last: int, kind: int) -> int:
        """Return the evidence of capitals in a request that is in lower case otherwise."""
        large = [i for i in range(first, last) if self.words[i] not in SMALL]
        if not large or not all(self.capital[i] or self.words[i][0].isdigit() for i in large):
            return NONE
        inside = [self.capital[i] for i in self.inside]
        others = len(inside) - sum(first <= i < last for i in self.inside)
        capitals = sum(inside) - sum(self.capital[i] for i in self.inside if first <= i < last)
        marked = any(self.capital[i] and not self.starts[i] and self.words[i] != "i" for i in large)
        if not marked or self.inner(first, last) or 2 * capitals > others or (not others and self.capital[0]):
            return NONE
        words = [self.words[i] for i in large]
        if KINDS_OF_MUSIC.issuperset(words) or (PLAIN.issuperset(words) and len(words) < 3):
            return NONE
        ordinary = FREQUENT + 1 if kind == ARTIST else RARE
        return SOME if len(words) == 1 and frequency(words[0]) >= ordinary else STRONG
