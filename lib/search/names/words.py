"""The words of names and requests: folded, split, shortened and hashed."""

import math
import re
import unicodedata
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import wordfreq
import yaml

from lib.core.catalogue import TRANSLATIONS

WORDING = yaml.safe_load((Path(__file__).parent / "names.yaml").read_text(encoding="utf-8"))

# A letter of a script that writes no blanks between words, or a run of other letters and digits with their marks.
ALONE = "぀-ヿ㐀-鿿豈-﫿가-힯"
LETTER = rf"(?:[^\W_{ALONE}]|[\u0300-\u036f\u0610-\u065f\u0900-\u0dff\u0e00-\u0e7f])"
TOKEN = re.compile(rf"[{ALONE}]|&|\+|{LETTER}(?:{LETTER}|['’`´$!](?={LETTER}))*|\${LETTER}+")
MARKS = re.compile("[\u0300-\u036f'’`´]")
LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "æ": "ae", "œ": "oe", "ı": "i", "$": "s", "!": "i", "ð": "d"})
AND = {"&", "+"}
LONE_N = re.compile(r"(?<=[\s'’-])n(?=[\s'’-])", re.IGNORECASE)  # "Salt-N-Pepa", "Guns N' Roses"

BRACKETS = re.compile(r"\s*[(\[][^()\[\]]*[)\]]")
DASH = re.compile(r"\s[-–—]\s.*$")  # "Stay - Remastered 2011", "Symphony No. 5 - 1. Allegro"
SEPARATORS = re.compile(r"\s*;\s*|\s+/\s+|\s*\|\s*|\s+(?:feat\.?|ft\.?|featuring|vs\.?)\s+", re.I)

LONG = 8  # letters from which two edits of a word are corrected, not one
LONGEST = 32  # letters beyond which no edit of a word is corrected: their number is that of the letters, squared
MIXER = np.uint64(0x9E3779B97F4A7C15)


class Token(NamedTuple):
    """A word of a text, folded, and where it is: text[start:end]."""

    word: str
    start: int
    end: int


def tokens(text: str) -> list[Token]:
    """Split a text into words."""
    return [Token(_fold(m[0]), m.start(), m.end()) for m in TOKEN.finditer(LONE_N.sub("&", text))]


def words(name: str) -> list[str]:
    """Split a name into folded words."""
    return [_fold(token) for token in TOKEN.findall(LONE_N.sub("&", name))]


@lru_cache(maxsize=1 << 16)
def _fold(token: str) -> str:
    """Return a word in lower case, without accents and apostrophes."""
    token = token.casefold()
    if not token.isascii():
        token = unicodedata.normalize("NFC", MARKS.sub("", unicodedata.normalize("NFKD", token)))
    token = MARKS.sub("", token).translate(LETTERS)
    return "and" if token in AND else token


FOREIGN = {_fold(word): 5.0 for words in TRANSLATIONS.values() for word in words}  # as common as "sad"


@lru_cache(maxsize=1)
def _frequencies() -> dict[str, float]:
    """Return the frequencies of common English words, folded, on Zipf's scale: log10 of the frequency in 10^9 words."""
    words = wordfreq.get_frequency_dict("en", "small")
    return FOREIGN | {MARKS.sub("", word): math.log10(share) + 9 for word, share in reversed(words.items())}


def frequency(word: str) -> float:
    """Return a word's frequency in English on Zipf's scale, 0 below 3 (van Heuven et al. 2014)."""
    return _frequencies().get(word, 0.0)


def artists_of(cell: str) -> list[str]:
    """Return the artists that an artist's cell names: the whole cell and its parts.

    A comma may separate artists or stand in a name ("Tyler, The Creator"), so a part with commas is a name, too.
    """
    parts = SEPARATORS.split(cell)
    pieces = [piece for part in parts for piece in part.split(",") if not piece.startswith((" The ", " & "))]
    return list(dict.fromkeys(part.strip() for part in (*parts, *pieces, cell) if part.strip()))


def titles_of(cell: str) -> list[str]:
    """Return the title as written and, if it differs, without what follows in brackets or after a dash."""
    short = BRACKETS.sub("", cell).strip() or cell if "(" in cell or "[" in cell else cell
    short = DASH.sub("", short)
    return [cell] if short == cell or not short.strip() else [cell, short]


def deletions(word: str) -> set[str]:
    """Return the word and the words that lack one letter of it, of long words two (SymSpell, Garbe 2012)."""
    if len(word) > LONGEST:
        return {word}
    once = {word[:i] + word[i + 1 :] for i in range(len(word))}
    if len(word) < LONG:
        return once | {word}
    places = combinations(range(len(word)), 2)
    return once | {word} | {word[:i] + word[i + 1 : j] + word[j + 1 :] for i, j in places}


def hashes(texts: list[str]) -> np.ndarray:
    """Return the hash of each text, the same in each process. -> (n,) of uint64."""
    return pd.util.hash_array(np.array(texts, dtype=object), categorize=False) if texts else np.zeros(0, np.uint64)


def join_hash(before: np.ndarray, word: np.ndarray) -> np.ndarray:
    """Return the hash of a sequence of words that continues another one. (n,) and (n,) of uint64 -> (n,)."""
    mixed = (before ^ word) * MIXER
    return mixed ^ (mixed >> np.uint64(29))
