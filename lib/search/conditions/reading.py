"""Read a request: the conditions that it names, those that it negates, and the text that is left to encode.

A negation reaches to the end of its clause, and over the lists in it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from lib.search.conditions.vocabulary import CUES, DATA, MUSIC, SOUNDS, WORD, Item, Vocabulary, broken, fold, is_felt

FALLBACK = "music"  # the text to encode where a request only excludes
NOUNS = ("genre", "decade", "language")  # conditions that adjectives describe: "fast jazz"
DEGREES = frozenset({"too", "so", "that", "very", "overly"})  # "not too fast jazz" wants jazz
TOWARDS = ("into", "about", "onto")  # "not that into rock" wants none
VAGUE = ("old", "new", "1970s–1990s", "slow", "medium", "fast")  # they say less than a year or a figure
DENIES = ("feeling", "feel", "so", "very", "really", "that", "too")  # words between "I'm not" and a mood
MOST_WORDS = {"strong": 3, "weak": 1}  # that name no condition, in a negation
_LINKS = ("or", "nor", "and", "&")
_HARD_ENDS = {*DATA["hard_ends"], *CUES.values(), "<idiom>"}
_ENDS, _FILLERS, _EMPTY = (frozenset(DATA[kind]) for kind in ("ends", "fillers", "empty"))
_MARKS = {
    kind: re.compile(r"\b(?:" + "|".join(f"(?:{p})" for p in DATA[kind]) + r")\b(?!')") for kind in ("idiom", *CUES)
}
_COMPOUND = re.compile(r"(?:-\w+)*")  # the rest of a word like "rock-ish"
_QUOTED = re.compile(r"\"[^\"]+\"|“[^”]+”")
_DANGLING = re.compile(
    r"(?i)[\s,;]*\b(and|but|or|with|w|that|that'?s|(that|which|who) (is|are)|which|who)\s*(?=[,.;!?]|$)"
)
_SPACES = re.compile(r"[\s,;]+([,.;:!?])|(?<=\s)\s+|^(?:[\s,.;:!?]|(?:and|but|or)\b)+|[\s,;]+$", re.IGNORECASE)


@dataclass
class Understood:
    """The conditions of a request, and the text that is left to encode."""

    wanted: dict[str, list[str]] = field(default_factory=dict)  # condition -> values, of which any fits
    unwanted: dict[str, list[str]] = field(default_factory=dict)
    text: str = ""  # the request without its negated parts
    negated: list[str] = field(default_factory=list)  # the negated phrases as typed: "rock", "sad songs"
    spans: list[tuple[int, int]] = field(default_factory=list)  # their characters in the request
    items: list[Item] = field(default_factory=list)  # the phrases that name wanted conditions


def read(text: str, vocabulary: Vocabulary, names: Iterable[tuple[int, int]] = ()) -> Understood:
    """Return the conditions of a request.

    Args:
        text: the request.
        vocabulary: the phrases that name conditions.
        names: the characters (start, end) of the names in it. The words of a name name no condition: "New Order".
    """
    folded, result = fold(text), Understood()
    items = vocabulary.items(folded, _marks(folded, names))
    covered, cuts = set(), []
    for cue, scope in _negations(folded, items):
        covered.update(scope)
        opposites = []
        for i, item in enumerate(scope):
            opposite = DATA["opposites"].get(item.value)
            if not opposite and item.condition:
                _note(result.unwanted, item.condition, item.value)
            elif opposite and not (i and (scope[i - 1].condition or _is_plain(scope[i - 1]))):  # not "no harsh vocals"
                opposites.append(opposite)
                _note(result.wanted, item.condition, opposite)
        end = _COMPOUND.match(folded, scope[-1].end).end()
        cuts.append((cue.start, end, " ".join(dict.fromkeys(opposites))))
        result.spans += _phrases(folded, scope)
    for i, item in enumerate(items):  # "I'm sad" asks for no sad song, "sad songs" does
        feeling = item.condition == "mood" and not vocabulary.counts(folded, items, i)
        if item.condition and item not in covered and not feeling:
            _note(result.wanted, item.condition, item.value)
            result.items.append(item)
    cuts += _suit(vocabulary, items, covered, result)
    for i, item in enumerate(items):
        free = item not in covered and item not in result.items
        if free and "mood" in result.wanted and is_felt(items, i):
            cuts.append((item.start, item.end, ""))  # "I'm sad, cheer me up" asks for no sad song
        elif free and item.condition == "mood" and _is_denied(folded, items, i):
            _note(result.unwanted, "mood", item.value)  # "I'm not happy" asks for no happy song
            result.spans.append((item.start, item.end))
            cuts.append((*result.spans[-1], ""))
        elif item not in covered and _is_misspelt(folded, item):
            cuts.append((item.start, item.end, item.word))
    cuts.sort()
    for condition in {"decade", "tempo"} & result.wanted.keys():  # "old songs from the 50s", "slow, under 70 bpm"
        values = result.wanted[condition]
        result.wanted[condition] = [value for value in values if value not in VAGUE] or values
    result.negated = [text[start:end] for start, end in result.spans]
    result.text = _rest(text, cuts)
    return result


def _suit(
    vocabulary: Vocabulary, items: list[Item], covered: set[Item], result: Understood
) -> list[tuple[int, int, str]]:
    """Note the moods that suit an occasion, or do not suit: "too aggressive" asks for no angry song. -> what to cut."""
    said, cuts = [], []
    for before, item in pairwise([Item(0, 0, ""), *items]):
        if before.word not in CUES.values() or item.condition or not (moods := vocabulary.suiting(item.word)):
            said += [item.word] * (item not in covered)
            continue
        for mood in moods:
            _note(result.unwanted, "mood", mood)
        if item not in covered:
            result.spans.append((item.start, item.end))
            cuts.append((before.start, item.end, ""))
    for mood in [*result.unwanted.get("mood", ())]:
        if (near := DATA["near"].get(mood)) in vocabulary.moods and near not in result.wanted.get("mood", ()):
            _note(result.unwanted, "mood", near)
    beside = result.wanted.keys() - {"decade"} or not SOUNDS.isdisjoint(said)  # years are not encoded: "80s workout"
    if beside and "mood" not in result.wanted:
        result.wanted |= {"mood": moods} if (moods := vocabulary.suiting(" ".join(said))) else {}
    return cuts


def _is_denied(text: str, items: list[Item], i: int) -> bool:
    """Return True if the phrase before item `i` denies it: "I'm not happy", "not feeling happy"."""
    before = next((item for item in items[:i][::-1] if item.word not in DENIES), items[i])
    return before.word == "<idiom>" and "not" in text[before.start : before.end].replace("n't", " not").split()


def _is_misspelt(text: str, item: Item) -> bool:
    """Return True for a word that was read as another one: "pinao"."""
    typed = text[item.start : item.end]
    return typed != item.word and typed.isalpha() and (item.word.isalpha() or typed in DATA["spellings"])


def _marks(text: str, names: Iterable[tuple[int, int]]) -> list[Item]:
    """Return the names, quotations, idioms and beginnings of negations in a text. An earlier kind wins."""
    marks = [Item(start, end, "<name>") for start, end in names]
    for kind, pattern in (("name", _QUOTED), *_MARKS.items()):
        for m in pattern.finditer(text):
            if not any(mark.start < m.end() and m.start() < mark.end for mark in marks):
                marks.append(Item(*m.span(), f"<{kind}>"))
    return marks


def _negations(text: str, items: list[Item]) -> list[tuple[Item, list[Item]]]:
    """Return the beginning of each negation, and the items that it covers."""
    negations = []
    for i, cue in enumerate(items[:-1]):
        if cue.word not in CUES.values() or broken(text, cue, items[i + 1]):
            continue
        scope = [items[i + 1]] if cue.word == CUES["next"] else _scope(text, items, i + 1, cue.word == CUES["weak"])
        if any(item.condition or (cue.word != CUES["weak"] and _is_plain(item)) for item in scope):
            negations.append((cue, scope))
    return negations


def _is_plain(item: Item) -> bool:
    """Return True for a word with a meaning of its own that names no condition."""
    return not item.condition and item.word not in _FILLERS and item.word not in _LINKS


def _scope(text: str, items: list[Item], first: int, weak: bool) -> list[Item]:
    """Return the items that a negation covers, from the item `first` on."""
    cue = text[items[first - 1].start : items[first - 1].end].split()
    exact = not DEGREES.isdisjoint((*cue, items[first].word))  # "not too cheesy pop" wants pop
    k, fresh, plain = first, True, 0  # fresh: it has no object yet; plain: its words that name no condition
    while k < len(items):
        item, following = items[k], items[k + 1] if k + 1 < len(items) else None
        if k > first and item.word not in ("or", "nor") and broken(text, items[k - 1], item):
            end = _list_end(items, k)
            if end == k:
                break
            k = end
            continue
        if item.word in _HARD_ENDS:
            break
        if item.condition:
            if not fresh and item.condition == "mood" and " " in item.word:  # a wish: "no vocals, to sleep"
                break
            described = items[k - 1].condition or (
                exact and _is_plain(items[k - 1]) and items[k - 1].word not in TOWARDS
            )
            if (weak or exact) and not fresh and described and item.condition in NOUNS:
                break
            fresh = False
        elif item.word in ("or", "nor"):
            fresh = True
        elif item.word in _LINKS:
            if not following or (not following.condition and following.word in _ENDS | _HARD_ENDS):
                break
        elif not fresh and (item.word in _ENDS or (items[k - 1].condition and item.word not in MUSIC)):
            break
        elif item.word not in _FILLERS:
            fresh, plain = False, plain + 1
            if plain > MOST_WORDS["weak" if weak else "strong"]:
                break
        k += 1
    while k > first and items[k - 1].word in _FILLERS.union(_LINKS) - MUSIC:
        k -= 1
    return items[first:k]


def _list_end(items: list[Item], k: int) -> int:
    """Return the end of the list that continues at `k`: "rock, pop or jazz", "rap, metal, country"; `k` without one."""
    kind, end = items[k - 1].condition, k
    while kind and end < len(items) and items[end].condition == kind:
        end += 1
    linked = end + 1 < len(items) and items[end].word in _LINKS and items[end + 1].condition == kind
    if linked and end > k:
        return end + 2
    return end if end > k + 1 else k


def _phrases(text: str, scope: list[Item]) -> list[tuple[int, int]]:
    """Return the phrases of a negation as characters: "any rock or sad songs" -> rock, sad songs."""
    groups: list[list[Item]] = [[]]
    for i, item in enumerate(scope):
        if item.word in _LINKS or (i and broken(text, scope[i - 1], item)):
            groups.append([])
        if item.word not in _LINKS and (groups[-1] or item.condition or item.word not in _FILLERS):
            groups[-1].append(item)
    return [(group[0].start, group[-1].end) for group in groups if group]


def _note(conditions: dict[str, list[str]], condition: str, value: str) -> None:
    if value not in conditions.setdefault(condition, []):
        conditions[condition].append(value)


def _rest(text: str, cuts: list[tuple[int, int, str]]) -> str:
    """Return the text with each of `cuts` replaced; "music" where no word is left to search for."""
    for start, end, instead in reversed(cuts):
        text = text[:start] + instead + text[end:]
    if not cuts:
        return text
    text = _SPACES.sub(r"\1", _DANGLING.sub("", text))
    return text if any(word not in _EMPTY for word in WORD.findall(fold(text))) else FALLBACK
