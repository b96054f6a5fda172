"""The wording of tracks: descriptions and templates filled by whole columns (phrases.yaml).

A template's `{slot}` is a column of phrases with a row for each track. A description takes one template from each bank
of its register, so a few dozen templates give thousands of forms, and a model cannot rely on one.
"""

import re
from string import Formatter

import numpy as np

from lib.tracks.moods import load

PHRASES = load("phrases.yaml")
REGISTERS: dict[str, dict] = PHRASES["registers"]
_VOWEL = re.compile(r"[aeio8]|u(?!k|ni)|R&B|808", re.IGNORECASE)
_UNCOUNTED = re.compile(rf"(?<![sb]s|as)(?<!bus)s$|(?:{'|'.join(PHRASES['uncounted'])})$")
TYPOS = 0.25  # share of listeners' descriptions with a typo


def describe(rng: np.random.Generator, slots: dict[str, np.ndarray], silent: np.ndarray) -> np.ndarray:
    """Word a description for each row in a random register; `silent` rows do not name the mood. (n,) -> (n,) of str."""
    register = rng.choice(len(REGISTERS), len(silent), p=[register["share"] for register in REGISTERS.values()])
    out = np.full(len(silent), "", dtype=object)
    for i, banks in enumerate(REGISTERS.values()):
        for kind in ("with_mood", "without_mood"):
            rows = np.flatnonzero((register == i) & (silent == (kind == "without_mood")))
            parts = [worded(rng, bank, slots, rows) for bank in banks[kind]]
            out[rows] = [" ".join(filter(None, sentences)) for sentences in zip(*parts, strict=True)]
    typos = (register == list(REGISTERS).index("listener")) & (rng.random(len(out)) < TYPOS)
    out[typos] = [with_typo(text, at) for text, at in zip(out[typos], rng.random(typos.sum()), strict=True)]
    return out


def worded(rng: np.random.Generator, templates: list[str], slots: dict, rows: np.ndarray) -> np.ndarray:
    """Draw one of the templates for each of `rows` and fill it. -> (rows,) of str."""
    draws = rng.integers(0, len(templates), len(rows))
    out = np.empty(len(rows), dtype=object)
    for i, template in enumerate(templates):
        out[draws == i] = fill(template, slots, rows[draws == i])
    return out


def slots_of(template: str) -> set[str]:
    """Return the names of a template's slots."""
    return {name for _, name, _, _ in Formatter().parse(template) if name}


def fill(template: str, slots: dict[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Fill a template's slots for `rows`, a column at a time. -> (rows,) of str.

    A slot with a capital letter is its lower-case slot with the first letter in upper case.
    """
    out = np.full(len(rows), "", dtype=object)
    for literal, name, _, _ in Formatter().parse(template):
        out = out + literal
        if name:
            out = out + (slots[name][rows] if name in slots else _capitalised(slots[name[0].lower() + name[1:]][rows]))
    return out


def pick(rng: np.random.Generator, choices: list[list], group: np.ndarray) -> np.ndarray:
    """Draw a choice for each row from the list of its group. (n,) -> (n,)."""
    return pick_two(rng, choices, group)[0]


def pick_two(rng: np.random.Generator, choices: list[list], group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw two choices for each row, different where the list of its group has two. (n,) -> (n,), (n,)."""
    sizes = np.array([len(c) for c in choices])
    starts = np.concatenate([[0], sizes.cumsum()[:-1]])[group]
    flat = np.array([word for c in choices for word in c], dtype=object)
    size = sizes[group]
    first = (rng.random(len(group)) * size).astype(int)
    second = (first + 1 + (rng.random(len(group)) * (size - 1)).astype(int)) % size
    return flat[starts + first], flat[starts + second]


def with_article(words: np.ndarray) -> np.ndarray:
    """Put "a" or "an" before each phrase, by its first sound."""
    phrases = {word: ("an " if _VOWEL.match(word) else "a ") + word for word in set(words)}
    return np.array([phrases[word] for word in words], dtype=object)


def counted(instruments: np.ndarray) -> np.ndarray:
    """Put "a" or "an" before each instrument that is one thing: a piano, but congas and feedback."""
    articles = dict(zip(one := sorted(set(instruments)), with_article(np.array(one, dtype=object)), strict=True))
    return np.array([word if _UNCOUNTED.search(word) else articles[word] for word in instruments], dtype=object)


def _capitalised(words: np.ndarray) -> np.ndarray:
    return np.array([word[:1].upper() + word[1:] for word in words], dtype=object)


def with_typo(text: str, at: float) -> str:
    """Misspell the first word inside which `at`, a share of the text's length, falls, or a later one.

    Two neighbouring letters are swapped, or the first of them is left out (where it is at an odd place in the text).
    """
    for i in range(max(1, int(at * len(text))), len(text) - 1):
        if text[i - 1 : i + 2].isalpha() and text[i : i + 2].islower():
            return text[:i] + text[i + 1] + ("" if i % 2 else text[i]) + text[i + 2 :]
    return text
