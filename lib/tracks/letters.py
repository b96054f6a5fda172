"""Misread letters: words that are far likelier in another encoding than in the one that they were read in."""

import re
from collections import Counter
from itertools import product

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lib.tracks.readers.encodings import ENCODINGS, likelihood

ANY = r"[^\x00-\x2f:;<=>?]*"
WORD = re.compile(rf"{ANY}[^\x00-\x7f]{ANY}")
ASCII = r"(?:^|[\x00-\x2f:;<=>?])(?:[0-9@-\x7f]*(?:[\x00-\x2f:;<=>?]|$))*"  # what is between such words (for RE2)
# The encodings that programs read by mistake; in them, nearly every byte is a letter.
READINGS = ("cp1252", "latin-1", "cp1251", "cp1250", "mac_roman", "cp850")
COMMON = 300  # words that decide which encoding was misread
CLEAR = 8.0  # a log-likelihood: a word this much likelier in another encoding was misread


def misread(texts: pd.Series) -> pd.Series:
    """Return the text as it should be where its letters were misread, else "". (n,) -> (n,) with the same index.

    UTF-8 that was read as another encoding is recognised by its bytes: other words are no valid UTF-8. Other encodings
    are recognised by the likelihood of their letters in the languages that are written in them.
    """
    beyond = texts[~pc.string_is_ascii(pa.array(texts, pa.large_string())).to_numpy(zero_copy_only=False)]
    lines = pc.replace_substring_regex(pa.array(beyond, pa.large_string()), ASCII, "\n").to_pylist()
    words = Counter(word for text in lines for word in set(text.split("\n")) if word)
    better = {word: utf8 for word in words if (utf8 := _as_utf8(word))}
    better |= _in_another_encoding({word: n for word, n in words.items() if word not in better})
    repaired = [WORD.sub(lambda match: better.get(match[0], match[0]), text) for text in beyond] if better else beyond
    out = pd.Series("", index=texts.index, dtype="str")
    out[beyond.index] = np.where(np.asarray(repaired) != beyond, repaired, "")
    return out


def _as_utf8(word: str) -> str:
    """Return the word that was UTF-8 and read as one of READINGS; "" if there is none."""
    for reading, end in product(READINGS, ("", "\xa0")):  # the last letter's second byte may have become a blank
        try:
            text = (word + end).encode(reading).decode("utf-8")
        except UnicodeError:
            continue
        if text.isprintable() and len(text.encode()) - len(text) > len(end):
            return text
    return ""


def _in_another_encoding(words: dict[str, int]) -> dict[str, str]:
    """Return word -> the same bytes in the encoding that was misread as Windows-1252, for words where that is clear."""
    raw = {word: data for word in words if any(map(str.isalpha, word)) and (data := _bytes(word))}
    common = sorted(raw, key=words.get, reverse=True)[:COMMON]
    gains = dict.fromkeys(ENCODINGS, 0.0)
    now = {word: likelihood(raw[word], "cp1252") for word in common}
    doubtful = [word for word in common if now[word] < -CLEAR]  # no logarithm of a likelihood is above 0
    for codec in ENCODINGS:
        gains[codec] = sum(max(0.0, likelihood(raw[word], codec) - now[word] - CLEAR) for word in doubtful)
    best = max(gains, key=gains.get)
    if gains[best] < 2 * CLEAR:
        return {}
    clear = [w for w, data in raw.items() if likelihood(data, best) - likelihood(data, "cp1252") > CLEAR]
    return {word: raw[word].decode(best, "replace") for word in clear}


def _bytes(word: str) -> bytes:
    """Return the bytes of a word that was read as Windows-1252 or Latin-1; nothing if it cannot have been."""
    for reading in READINGS[:2]:
        try:
            return word.encode(reading)
        except UnicodeError:
            continue
    return b""
