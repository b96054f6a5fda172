"""The evidence that a name needs to be a mention: more if its words are ordinary, or it is short or misspelt."""

from functools import lru_cache

from lib.search.names.index import INITIALS, PART, SHORTER
from lib.search.names.lookup import Match
from lib.search.names.words import WORDING, frequency

ARTIST, TITLE, ALBUM = range(3)
# Evidence, and how much a name needs: none; a word that often precedes names; a cue for names; a cue for this kind of
# name; quotation marks or "called". Half more: the cue is of the name's kind.
NONE, SOME, STRONG, CERTAIN, SURE, NEVER, OWN = 0, 1, 2, 3, 5, 9, 0.5

# Frequencies on Zipf's scale (of "happy" 5.4, "drake" 4.0, "melancholy" 3.4, "metallica" 3.2); below 3 they count as 0.
EVERYWHERE, FREQUENT, COMMON, ENGLISH = 5.6, 4.3, 3.8, 3.5

SHORT = 3  # letters below which a corrected word is doubtful
LONG_TITLE = 7  # letters of a title of one word that needs less evidence
GROUPS = ("kinds_of_music", "feelings_and_occasions", "polite", "references", "music")
PLAIN = frozenset(word for group in GROUPS for word in WORDING[group].split())
NO_NAMES = frozenset(word for group in GROUPS[2:] for word in WORDING[group].split())
NEVER_NAMES = frozenset(f"{WORDING['references']} {WORDING['music']} him her them us me you it".split())
MUSIC = frozenset(WORDING["music"].split())
KINDS_OF_MUSIC = frozenset(f"{WORDING['kinds_of_music']} {WORDING['references']} and the".split())
SMALL = frozenset("a an and at de for in la le my of on or the to with".split())  # noqa: SIM905


def correctable(word: str) -> bool:
    """Return True if a word may be a misspelt name of one word: it is no ordinary one."""
    return len(word) > 3 and word not in PLAIN and frequency(word) < COMMON


def needed(match: Match, kind: int, typed: list[str], owner: str | None, shouted: bool, rare: bool) -> float:
    """Return the evidence that a match needs to be a mention.

    `typed`: the request's words; `owner`: the last without a possessive s; `shouted`: only they are in capitals;
    `rare`: few of the catalogue's tracks have the name.
    """
    bare = kind == ARTIST and match.form == SHORTER and match.words[0] == "the"  # "the Eagles" of "Eagles"
    need, joined = _needed(match.words[bare:], kind), "".join(typed)
    if len(typed) > 1 and (joined in PLAIN or frequency(joined)):  # "so ngs"
        need = max(need, _needed((joined,), kind))
    if kind == ARTIST and match.form == SHORTER and typed[0] != "the" and joined.startswith("the"):  # "theses": "Ses"
        return NEVER
    if owner and match.words[-1] != owner:  # "Smith's" as "Smiths"
        need = max(need, CERTAIN)
    if match.form == SHORTER and len(typed) == 1:
        need += 1
    elif match.form == PART:
        need = max(SOME, need)
    elif match.form == INITIALS:
        need = NEVER
        if len(typed) == 1 and len(joined) > 2 and joined not in PLAIN:
            need = SOME if shouted else NEVER if frequency(joined) else STRONG
    if kind == ARTIST and rare and need < CERTAIN:
        need += 1
    return max(need, _needed_misspelt(match, typed[bare:], match.words[bare:], kind)) if match.edits else need


def _needed_misspelt(match: Match, typed: list[str], name: tuple[str, ...], kind: int) -> float:
    """Return the evidence that a misspelt name needs: more if its words are English words as they were typed."""
    changed = [a for a, b in zip(typed, name, strict=True) if a != b]
    letters = sum(map(len, name))
    digits = any(a != b and not b.isalpha() for a, b in zip(typed, name, strict=True))
    if letters < 5 + 4 * (match.edits > 1) or digits:
        return NEVER
    if min(map(len, changed), default=SHORT) < SHORT and letters < 8:
        return CERTAIN
    own = STRONG + OWN * (kind != ARTIST)
    if len(typed) == 1:
        if not correctable(typed[0]) or kind == ALBUM:
            return NEVER
        return CERTAIN if frequency(typed[0]) else own if frequency(name[0]) or kind != ARTIST else SOME
    if PLAIN.issuperset(typed) and len(typed) < 3:
        return NEVER
    clear = any(a == b and frequency(a) < COMMON and len(a) > 3 for a, b in zip(typed, name, strict=True))
    english = any(frequency(word) >= ENGLISH or len(word) < 4 for word in changed)
    return own if english and not (clear and letters >= 12) else SOME


@lru_cache(maxsize=1 << 14)
def _needed(name: tuple[str, ...], kind: int) -> int:
    """Return the evidence that a name needs: more if its words are frequent."""
    if len(name) == 1 and (name[0] in NO_NAMES or frequency(name[0]) >= EVERYWHERE or len(name[0]) == 1):
        return SURE - OWN * (name[0] not in NEVER_NAMES)
    plain = all(word.isdigit() or word in SMALL or word in PLAIN for word in name)
    if KINDS_OF_MUSIC.issuperset(name) or (plain and (len(name) == 1 or MUSIC.intersection(name))):
        return CERTAIN + OWN * (kind != ARTIST)
    letters = sum(map(len, name))
    spelt = letters == len(name) > 2  # "R.E.M."
    rarest = NONE if spelt else min(frequency(word) if len(word) > 1 else EVERYWHERE for word in name)
    if all(word in NO_NAMES or word in SMALL or frequency(word) >= EVERYWHERE for word in name) and not spelt:
        need = CERTAIN if len(name) < 4 else STRONG
    elif plain or letters <= 2:
        need = STRONG
    elif len(name) == 1 and kind != ARTIST:
        need = STRONG if rarest or letters < LONG_TITLE else SOME
    elif len(name) == 1:
        need = STRONG if rarest >= COMMON else SOME if rarest else NONE
    elif kind == ARTIST or len(name) > 3:
        need = SOME if rarest >= FREQUENT else NONE
    else:
        need = STRONG if rarest >= COMMON else SOME if rarest else NONE
    return min(CERTAIN, need + 1) if kind == ALBUM else need
