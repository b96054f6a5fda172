"""The words by which requests name conditions (conditions.yaml). The longest phrase wins."""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import yaml
from rapidfuzz.distance import OSA

from lib.core.catalogue import TRANSLATIONS
from lib.search.names.words import FOREIGN, deletions, frequency
from lib.search.words import FILLERS

# BaseLoader reads every scalar as a text: "no" and "on" are words here.
DATA = yaml.load(Path(__file__).with_name("conditions.yaml").read_text(encoding="utf-8"), yaml.CBaseLoader)
WORD = re.compile(r"[^\W_]+(?:['&][^\W_]+)*|&")
CUES = {kind: f"<{kind}>" for kind in ("strong", "weak", "next")}  # how a negation begins, as a word of a request
MUSIC = frozenset(DATA["music"])
INSTRUMENTS = {form: forms for forms in DATA["instruments"] for form in forms}
SOUNDS = frozenset([*INSTRUMENTS, *DATA["sounds"]])
_NOUNS = {"language": MUSIC | set(DATA["playlists"]), "mood": MUSIC | SOUNDS}
_BESIDE = _NOUNS["mood"] | {"<name>"}
_OCCASIONS = {mood: re.compile(rf"\b(?:{'|'.join(words)})\b") for mood, words in DATA["occasions"].items()}
_POLITE, TROUBLES = frozenset(DATA["polite"]), frozenset(DATA["troubles"])
_JOINTS, _FELT = frozenset(DATA["joints"]), frozenset([*DATA["feelings"], "<idiom>"])
_BREAK = re.compile(r"[,.;:!?()\[\]\n–—]| - ")
_YEAR = r"(?:19[1-9]\d|20[0-4]\d)"
_CUE = "before|until|till|pre|(?:older|earlier) than|after|since|post|(?:newer|later) than"
_DATE = re.compile(
    rf"(?<!\w)(?:(?P<cue>{_CUE})(?: the)?[ -])?"
    rf"(?:(?P<first>{_YEAR})(?:'?s)? ?(?:-|–|to|and|until|till|through) ?(?P<last>{_YEAR}|today|now)"
    r"|(?:(?:(?P<part>early|mid|late)[ -])?"
    r"(?P<years>(?:anos|annees|anni|los) )?"
    r"(?P<decade>(?:18[1-9]|(?:19|20)?\d)0)(?(years)|(?: ?'?s|t?ies|er(?:n|jahren?)?))"
    rf"|(?P<year>{_YEAR})|'(?P<short>\d\d))"
    r"(?P<later>,? (?:upwards?|onwards?|(?:or|and) (?:later|newer|up|onwards?)|(?:to|through|till) (?:today|now)))?)\b"
)
_BPM = re.compile(
    r"\b(?:(?P<over>over|above|at least) |(?P<under>under|below|at most|up to) |(?P<low>\d{2,3}) ?(?:-|–|to|and) ?)?"
    r"(?P<bpm>\d{2,3}) ?(?P<more>\+)? ?(?:bpm|beats per minute)\b(?P<or_more> or (?:more|faster))?"
)
_EARLIER = ("before", "until", "till", "pre", "older", "earlier")
_PARTS = {"early": (0, 4), "mid": (3, 6), "late": (5, 9)}  # of a decade: years from its first
_AGE = re.compile(r"\b(in|into|turning|hit) (my|your|his|her|our|their) (early |late |mid )?[\w']+$")


MISSPELT = 5  # letters from which a word for a condition is known if misspelt


class Item(NamedTuple):
    """A word of a request, or a phrase that names a condition."""

    start: int
    end: int
    word: str
    condition: str = ""
    value: str = ""


def fold(text: str) -> str:
    """Return the text in lower case without accents, each character in its place."""
    if text.isascii():
        return text.lower().replace("`", "'")
    plain = (unicodedata.normalize("NFKD", character)[0].lower()[:1] for character in text)
    return "".join(plain).replace("’", "'").replace("`", "'")


def words_of(text: str) -> str:
    """Return the folded words of a phrase, joined by spaces: "Hip-Hop" -> "hip hop"."""
    return " ".join(WORD.findall(fold(text)))


def instruments_of(texts: Iterable[str]) -> list[list[str]]:
    """Return the forms of each instrument in the first text that names one: "a sad harp" -> [["harp", "harps"]]."""
    found = ([INSTRUMENTS[word] for word in words_of(text).split() if word in INSTRUMENTS] for text in texts)
    return next(filter(None, found), [])


def broken(text: str, first: Item, second: Item) -> bool:
    """Return True if a comma, full stop or the like stands between two items."""
    return bool(_BREAK.search(text, first.end, second.start))


def inflections(mood: str) -> list[str]:
    """Return a mood's name and its plain inflections: sad, sadder, saddest, sadly, sadness."""
    ending = next(e for e in DATA["inflections"] if mood.endswith(e))
    stem = mood.removesuffix(ending) if ending in ("y", "ic") else mood
    return [mood, *(stem + suffix for suffix in DATA["inflections"][ending])]


class Vocabulary:
    """The phrases that name conditions: those of conditions.yaml, the catalogue's genres and its moods."""

    def __init__(self, genres: Iterable[str] = (), moods: Iterable[str] = ()):
        """Read the table; `genres` and `moods` are the catalogue's distinct values."""
        self.moods = frozenset(moods)
        self.phrases: dict[str, tuple[str, str]] = {}
        self.adjectives: dict[str, tuple[str, str]] = {}  # phrases only before a word for music, or after certain words
        self._add_genres()
        for condition, values in DATA["phrases"].items():
            for value, phrases in values.items():
                self._add(condition, value, phrases)
        for mood in moods:
            for key in map(words_of, (*inflections(mood), *TRANSLATIONS.get(mood, ()), *DATA["wishes"].get(mood, ()))):
                if not set(key.split()) <= FILLERS:
                    self.phrases.setdefault(key, ("mood", mood))
        for word in map(words_of, DATA["common"]):
            self.adjectives[word] = self.phrases.pop(word)
        for condition, values in DATA["adjectives"].items():
            for value, words in values.items():
                self.adjectives |= dict.fromkeys(map(words_of, words), (condition, value))
        for genre in genres:
            key = words_of(genre)
            other = set(key.split()) <= FILLERS  # a genre "Other" would be in every request
            if not other and key not in self.phrases and key not in self.adjectives and len(key.split()) <= 4:
                (self.phrases if " " in key else self.adjectives)[key] = ("genre", genre)
        self.words = {word for key in (*self.phrases, *self.adjectives) for word in key.split()}
        self.longest = max(len(key.split()) for key in (*self.phrases, *self.adjectives))
        long = [key for key in (*self.phrases, *self.adjectives, *SOUNDS) if " " not in key and len(key) >= MISSPELT]
        self.misspelt = {part: key for key in long for part in deletions(key) if len(part) >= len(key) - 1}

    def _add_genres(self) -> None:
        languages = {words_of(word) for words in DATA["adjectives"]["language"].values() for word in words}
        for family, entry in DATA["families"].items():
            for genre in entry["genres"]:
                if words_of(genre).split()[0] not in languages:  # "French pop" is a language and a family
                    self._add("genre", genre, [genre])
            self._add("genre", family, [family, *entry["names"]])
        for genre, names in DATA["aliases"].items():
            self._add("genre", genre, [genre, *names])

    def _add(self, condition: str, value: str, phrases: Iterable[str]) -> None:
        for phrase in phrases:
            key = words_of(phrase)
            self.phrases[key] = (condition, value)
            if "-" in phrase:
                self.phrases[key.replace(" ", "")] = (condition, value)

    def suiting(self, said: str) -> list[str]:
        """Return the catalogue's moods that suit an occasion in some words: "jazz for dinner" -> calm."""
        return [mood for mood, words in _OCCASIONS.items() if mood in self.moods and words.search(said)]

    def reads(self, phrase: str) -> bool:
        """Return True for a phrase that names a condition."""
        return words_of(phrase) in self.phrases or words_of(phrase) in self.adjectives

    def __contains__(self, phrase: str) -> bool:
        """Return True for a phrase that names a condition or an instrument."""
        return self.reads(phrase) or words_of(phrase) in SOUNDS

    def items(self, text: str, marks: list[Item]) -> list[Item]:
        """Return the words and phrases of a folded text in order; each of `marks` replaces the words in its place."""
        words = [Item(m.start(), m.end(), self._spelt(m.group())) for m in WORD.finditer(text)]
        marks = [*marks, *_figures(text, marks)]
        words = sorted([w for w in words if not any(m.start < w.end and w.start < m.end for m in marks)] + marks)
        items, i = [], 0
        while i < len(words):
            item, size = self._longest(text, words, i)
            items.append(item)
            i += size
        for i in range(len(items) - 1, -1, -1):
            if items[i].condition and items[i].word in self.adjectives and not self.counts(text, items, i):
                items[i] = items[i]._replace(condition="", value="")
        return items

    def _spelt(self, word: str) -> str:
        """Return a word as the phrases spell it: "hapy" -> "happy". English words stay as they are."""
        if word in DATA["spellings"]:
            return DATA["spellings"][word]
        known = frequency(word) or word in self.words or word in MUSIC
        if known or len(word) < MISSPELT - 1:
            return word
        near = {self.misspelt[part] for part in deletions(word) if part in self.misspelt}
        near = [other for other in sorted(near) if other[:1] == word[0] and OSA.distance(word, other) == 1]
        return near[0] if near else word  # few mistake the first letter

    def _longest(self, text: str, words: list[Item], i: int) -> tuple[Item, int]:
        """Return the longest phrase that begins at word `i`, and its number of words."""
        for size in range(min(self.longest, len(words) - i), 0, -1):
            first, last = words[i], words[i + size - 1]
            key = " ".join(w.word for w in words[i : i + size])
            meaning = self.phrases.get(key) or self.adjectives.get(key)
            if meaning and not (_BREAK.search(text, first.start, last.end) or _doubtful(text, words, i, i + size, key)):
                return Item(first.start, last.end, key, *meaning), size
        return words[i], 1

    def counts(self, text: str, items: list[Item], i: int) -> bool:
        """Return True if item `i` is foreign, alone, before a word for music or a condition, or after certain words."""
        item, before = items[i], items[i - 1].word if i else ""
        if (item.condition == "mood" and " " in item.word) or _is_all(items):  # "cheer me up", "a bit happier please"
            return True
        if len(items) == 1 or item.word in FOREIGN or before in {*CUES.values(), *DATA["after"][item.condition]}:
            return True
        if item.condition == "mood" and _is_listed(items, i):
            return True
        if i + 1 == len(items) or broken(text, item, items[i + 1]) or items[i + 1].word in DATA["ends"]:
            return item.condition == "language" and before not in DATA["people"]  # "Spanish for my party"
        return bool(items[i + 1].condition) or items[i + 1].word in _NOUNS.get(item.condition, MUSIC)


def _is_all(items: list[Item]) -> bool:
    """Return True if a turn names conditions, and says little else."""
    bit = any(item.word in ("bit", "little") for item in items)
    return all(x.condition or x.word in _POLITE or x.word in CUES.values() or (bit and x.word == "a") for x in items)


def is_felt(items: list[Item], i: int) -> bool:
    """Return True if item `i` is what the listener feels: "I'm sad, cheer me up"."""
    before = next((item.word for item in items[:i][::-1] if item.word not in _JOINTS), "")
    return items[i].word in TROUBLES and (not before or before in _FELT)


def _is_listed(items: list[Item], i: int) -> bool:
    """Return True if a mood is beside a condition, an instrument or a name: "fast but sad", "happy piano"."""
    before = next((item for item in items[:i][::-1] if item.word not in _JOINTS), None)
    after = next((item for item in items[i + 1 :] if item.word not in _JOINTS), None)
    feeling = before and before.word in _FELT
    return not feeling and any(x and (x.condition or x.word in _BESIDE) for x in (before, after))


def _doubtful(text: str, words: list[Item], start: int, end: int, key: str) -> bool:
    """Return True if the word before or after a phrase gives it another meaning: "my country"."""
    before, after = DATA["doubtful"].get(key, ((), ()))
    if start > 0 and words[start - 1].word in before and not broken(text, words[start - 1], words[start]):
        return True
    return end < len(words) and words[end].word in after and not broken(text, words[end - 1], words[end])


_THAN = re.compile(r"(?:(less|lower|slower|no more|not more|not faster)|more|faster|higher) than $")


def _figures(text: str, marks: list[Item]) -> list[Item]:
    """Return the decades, years and tempos in figures outside the marks: "since the 90s", "1985-1992", "120 bpm"."""
    items = []
    for m in _BPM.finditer(text):
        than = _THAN.search(text, 0, m.start())
        over, under = (m["over"] or m["more"] or m["or_more"], m["under"]) if not than else (not than[1], than[1])
        side = "over " if over else "under " if under else ""
        items.append(Item(*m.span(), m.group(), "tempo", f"{side}{m['low'] or ''}{'–' * bool(m['low'])}{m['bpm']} BPM"))
    for m in _DATE.finditer(text):
        if not _AGE.search(text, max(0, m.start() - 25), m.end()):
            items.append(Item(*m.span(), m.group(), "decade", _dates(m)))
    return [item for item in items if not any(mark.start < item.end and item.start < mark.end for mark in marks)]


def _dates(m: re.Match) -> str:
    """Return the dates that a match of `_DATE` names: 1980s, 1975, 1985–1992, before 1980, since 1990."""
    year = m["year"] or m["decade"] or m["short"] or ""
    if len(year) == 2:
        year = ("20" if int(year) <= (29 if m["short"] else 10) else "19") + year
    if m["part"] and not m["cue"]:
        return "–".join(str(int(year) + offset) for offset in _PARTS[m["part"]])
    if m["cue"] and m["cue"].startswith(_EARLIER):
        return f"before {m['last'] or year}"
    if m["cue"] or m["later"] or m["last"] in ("today", "now"):
        beyond = 10 if m["decade"] and m["cue"] not in (None, "since") else 0  # after the 90s: since 2000
        return f"since {m['first'] or int(year) + beyond}"
    return "–".join(sorted((m["first"], m["last"]))) if m["first"] else year + "s" * bool(m["decade"])
