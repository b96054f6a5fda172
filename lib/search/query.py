"""A query: a request and the turns before it, read by the catalogue's words, names and conditions."""

import re
import unicodedata
from typing import NamedTuple

import numpy as np

from lib.search.conditions.facts import Facts, Understood
from lib.search.names.mentions import Mention, Names
from lib.search.words import FILLERS, split

# The weight of the turn before the request, and of each turn before that one by the next. On conversations of real
# listeners 0.3 to 0.5 were equally good; 1 was worse.
BEFORE, FADING = 0.4, 0.7
ENCODED = 6  # texts of a conversation that are encoded: earlier ones weigh less than a tenth of the request
LIKE = re.compile(
    r"\b((?<!i )(?<!would )(?<!['’]d )like|similar to|sounds? like|style of|vein of|reminds? me of|fans of)\W*$", re.I
)
# The artist in "by Kraftwerk" or "something by kraftwerk", but not in "by the sea".
BY = re.compile(
    r"\b(?:(?i:something|anything) by|by(?! \w+day\b)(?= [^\W\da-z]))\s+(\w[\w'&.-]*(?: [^\W\da-z][\w'&.-]*)*)"
)
ALSO = re.compile(r"^\W*(and|or|&|,)*\W*(the\s+)?$", re.I)


class Reading(NamedTuple):
    """A request as search understands it. The first text is the request's own, without its negated parts."""

    texts: list[str]  # to encode: of the request, of the turn before it, and so on
    wanted: dict[str, list[str]]  # condition or kind of name -> values, of which any fits
    unwanted: dict[str, list[str]]
    negated: list[str]  # the negated phrases as typed
    named: list[Mention]  # the names that are asked for
    alike: list[Mention]  # the names that stand for others like them
    rejected: list[Mention]
    missing: list[str]  # artists that the catalogue does not have
    faded: frozenset[str] = frozenset()  # wanted conditions of earlier turns, which count less

    @property
    def weights(self) -> np.ndarray:
        """The weights of the texts. -> (texts,) float32."""
        return np.array([1, *(BEFORE * FADING**i for i in range(len(self.texts) - 1))], np.float32)

    @property
    def understood(self) -> dict:
        """The conditions and names as the API returns them: {"genre": ["rock"], "not": {"tempo": ["slow"]}}."""
        return self.wanted | ({"not": self.unwanted} if self.unwanted else {})


def read(names: Names, facts: Facts, text: str, history=()) -> Reading:
    """Read a request and the turns before it, oldest first. A later turn overrides the conditions of earlier ones."""
    readings = [_read_turn(names, facts, unicodedata.normalize("NFKC", turn)) for turn in (*history, text)]
    wanted, unwanted = {}, {}
    for turn in readings:
        for condition, values in turn.wanted.items():
            wanted[condition] = values
            _drop(unwanted, condition, values)
        for condition, values in turn.unwanted.items():
            _drop(wanted, condition, values)
            unwanted[condition] = [*dict.fromkeys([*unwanted.get(condition, []), *values])]
    last = {}  # the latest use of each name counts
    for turn in readings:
        for use in ("named", "alike", "rejected"):
            for mention in getattr(turn, use):
                last[mention.kind, mention.name] = use, mention
    named, alike, rejected = ([m for use, m in last.values() if use == kind] for kind in ("named", "alike", "rejected"))
    texts = [turn.texts[0] for turn in reversed(readings)][:ENCODED]
    negated = [phrase for turn in readings for phrase in turn.negated]
    faded = frozenset(wanted) - frozenset(readings[-1].wanted)
    return Reading(texts, wanted, unwanted, negated, named, alike, rejected, readings[-1].missing, faded)


def _read_turn(names: Names, facts: Facts, text: str) -> Reading:
    mentions = names.mentions(text)
    known: Understood = facts.understand(text, [(m.start, m.end) for m in mentions])
    groups = {"named": [], "alike": [], "rejected": []}
    before, kind = 0, "named"
    for mention in mentions:
        if not (before and ALSO.match(text[before : mention.start])):  # "like X, Y and Z"
            kind = "alike" if LIKE.search(text[: mention.start]) else "named"
        rejected = any(start < mention.end and mention.start < end for start, end in known.spans)
        groups["rejected" if rejected else kind].append(mention)
        before = mention.end
    wanted, unwanted = dict(known.wanted), dict(known.unwanted)
    for mention in mentions:
        side = unwanted if mention in groups["rejected"] else wanted
        side.setdefault(mention.kind, []).append(mention.name)
    spans = [(m.start, m.end) for m in mentions]
    free = (m for m in BY.finditer(text) if not any(start < m.end() and m.start(1) < end for start, end in spans))
    artists = [m[1] for m in free if set(split(m[1])) - FILLERS]
    return Reading([known.text], wanted, unwanted, known.negated, **groups, missing=artists)


def _drop(conditions: dict[str, list[str]], condition: str, values: list[str]) -> None:
    """Take values off a condition, and the condition if it has no other value."""
    left = [value for value in conditions.pop(condition, []) if value not in values]
    if left:
        conditions[condition] = left
