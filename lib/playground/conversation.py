"""A conversation: its turns, its likes, and the conditions that were read and may be taken off."""

import re
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import uuid4

from lib.search.conditions.vocabulary import DATA
from lib.search.fusion import NAMED
from lib.search.query import CORRECTS
from lib.search.recommender import Recommender
from lib.search.turn import Reading
from lib.serve.contract import MOST_TRACKS

NEUTRAL = "music"  # the text of a request that has only likes
EARLIER = 20  # turns before the request that count: as many as the service takes
# A text that goes on from the page's sample: "no, faster", "more like this", "slower, please".
FOLLOWS = re.compile(
    rf"{CORRECTS.pattern}|^\W*(and|but|also|more|less|even|something else|a bit|(fast|slow|soft|loud|old|new)er)\b",
    re.I,
)
OPPOSITES = DATA["opposites"]


class Condition(NamedTuple):
    """A condition or a name that was read from a request."""

    kind: str  # "genre", "tempo", "artist", …
    value: str
    unwanted: bool


@dataclass
class Conversation:
    """All that the listener said and rated since the start."""

    turns: list[str]  # the last is the request
    ratings: dict[str, tuple[str, str]] = field(default_factory=dict)  # track id -> "liked" or "disliked", title
    off: set[Condition] = field(default_factory=set)  # conditions that the listener took off
    session: str = field(default_factory=lambda: uuid4().hex)  # its name in a tier

    def body(self) -> dict:
        """Return the conversation as fields of POST /recommend. The text is "" if nothing was said or liked."""
        rated = {
            kind: [i for i, (k, _) in self.ratings.items() if k == kind][-MOST_TRACKS:]
            for kind in ("liked", "disliked")
        }
        *history, text = self.turns or [NEUTRAL if rated["liked"] else ""]
        fields = {"history": history[-EARLIER:]} | rated
        return {"text": text} | {name: values for name, values in fields.items() if values}


def conditions(reading: Reading) -> dict[Condition, str]:
    """Return the conditions and names of a request, each with its text: "hip hop", "like Daft Punk", "not rock"."""
    alike = {(mention.kind, mention.name) for mention in reading.alike}
    texts = {}
    for unwanted, side in ((False, reading.wanted), (True, reading.unwanted)):
        for kind, value in ((kind, value) for kind, values in side.items() for value in values):
            before = "like " if (kind, value) in alike else f"{kind}: " if kind in NAMED else ""
            texts[Condition(kind, value, unwanted)] = "not " * unwanted + before + value
    return texts


def without(recommender: Recommender, reading: Reading, off: frozenset[Condition]) -> Reading:
    """Return a reading in which the conditions `off` do not count, nor the names and negated phrases behind them."""
    if not off:
        return reading
    parts = {"negated": []}
    for name, no in (("wanted", False), ("unwanted", True)):
        on = {kind: [v for v in vs if (kind, v, no) not in off] for kind, vs in getattr(reading, name).items()}
        parts[name] = {kind: values for kind, values in on.items() if values}
    for name, no in (("named", False), ("alike", False), ("rejected", True)):
        parts[name] = [mention for mention in getattr(reading, name) if (mention.kind, mention.name, no) not in off]
    for phrase in reading.negated:  # "no vocals" asks for instrumental music, "no rock" only excludes
        named = conditions(recommender.read(phrase))
        if off.isdisjoint((c.kind, OPPOSITES.get(c.value, c.value), c.value not in OPPOSITES) for c in named):
            parts["negated"].append(phrase)
    return reading._replace(**parts)
