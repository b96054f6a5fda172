"""The files of a catalogue's names: keys of whole names, sequences of words, and words with letters left out."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import feather

from lib.search.names.words import MIXER, artists_of, deletions, frequency, hashes, join_hash, titles_of, words

FOLDER = "names"  # in a run's index/
KINDS = ("artist", "title", "album")
WHOLE, SHORTER, PART, INITIALS = range(4)  # forms of a name: as written, without "The", one of its words, its initials
SPAN = 24  # words of a name at most whose misspelt words are corrected
DOMINANT = 0.8  # a word or initials name an artist only with this share of the tracks of all whom they may name
LEAST = 3e-6  # and with this share of all mentions of names
RARE = 4.0  # frequency on the Zipf scale: rarer words can name an artist
BITS = 16  # bits of the sequences' set for each sequence in it
START, END = np.uint64(0x243F6A8885A308D3), np.uint64(0x13198A2E03707344)  # of a sequence
CHUNK = 1 << 30  # rows of a file that are written as one piece: one is read without a search
ARRAYS = ("kinds", "offsets", "rows", "keys", "key_entries", "key_forms", "sequences", "deletions", "deletion_words")


def write_names(folder: Path, tracks: pd.DataFrame, artists: dict[str, list[str]] | None = None) -> None:
    """Write the names of tracks, with columns artist, title and album (any may lack), into a folder.

    `artists` are the nicknames of known artists. A request may mention those who have no tracks, too.
    """
    artists = artists or {}
    folder = Path(folder) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    kinds, names, name_of, rows = _names(tracks, list(artists))
    tokens = [words(name) for name in names]
    keys = ["".join(_shorter(kind, t) or t) if kind == 0 else "".join(t) for kind, t in zip(kinds, tokens, strict=True)]
    entries, _ = pd.factorize(hashes(keys) ^ (kinds.astype(np.uint64) * MIXER))
    _write_entries(folder, kinds, names, entries, name_of, rows)
    counts = np.bincount(entries[name_of], minlength=entries.max(initial=-1) + 1)
    forms = _forms(kinds, tokens, entries, counts)
    nicknames = [[words(name) for name in own if name] for own in artists.values()]
    _write_keys(folder, forms, _nicknames(nicknames, entries, kinds, forms))
    spelled = [s for kind, t in zip(kinds, tokens, strict=True) for s in (t, _shorter(kind, t)) if s]
    _write_words(folder, spelled + [name for own in nicknames for name in own])


def expand(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the positions start, start + 1, … of each range, one range after the other."""
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(counts.sum())


def _shorter(kind: int, name: list[str]) -> list[str]:
    """Return the name without "The", or nothing where the name needs it: the artist "The The", the title "The Look"."""
    rest = name[1:] if name[:1] == ["the"] else []
    return rest if len(rest) > (kind > 0) and rest != ["the"] and len(name) <= SPAN else []


def _names(tracks: pd.DataFrame, artists: list[str]) -> tuple[np.ndarray, list[str], np.ndarray, np.ndarray]:
    """Return the kinds and distinct names, and pairs of a name and a row that has it."""
    kinds, names, name_of, rows = [np.zeros(len(artists), np.uint8)], artists, [], []
    for kind, column in enumerate(KINDS):
        if column not in tracks:
            continue
        codes, cells = pd.factorize(tracks[column])
        cells = [str(cell) for cell in cells]
        parts = [artists_of(cell) if kind == 0 else titles_of(cell) for cell in cells]
        sizes = np.array([len(p) for p in parts], int)
        of_part, distinct = pd.factorize(np.array([name for p in parts for name in p], dtype=object))
        of_row = np.flatnonzero(codes >= 0)
        cell = codes[of_row]
        name_of.append(of_part[expand((np.cumsum(sizes) - sizes)[cell], sizes[cell])] + len(names))
        rows.append(np.repeat(of_row, sizes[cell]))
        kinds.append(np.full(len(distinct), kind, np.uint8))
        names += distinct.tolist()
    return tuple(x if x is names else np.concatenate(x) for x in (kinds, names, name_of, rows))


def _write_entries(folder: Path, kinds: np.ndarray, names: list[str], entries, name_of, rows) -> None:
    """Write each entry's kind, its most frequent spelling and its rows."""
    n = entries.max(initial=-1) + 1
    order = np.lexsort((-np.bincount(name_of, minlength=len(names)), entries))
    best = order[np.unique(entries[order], return_index=True)[1]]
    _write_texts(folder / "names.feather", [names[i] for i in best])
    pairs = np.unique(entries[name_of] * (rows.max(initial=0) + 1) + rows)
    entry, row = np.divmod(pairs, rows.max(initial=0) + 1)
    np.save(folder / "kinds.npy", kinds[best])
    np.save(folder / "offsets.npy", np.searchsorted(entry, np.arange(n + 1)))
    np.save(folder / "rows.npy", row.astype(np.int32))


def _forms(kinds: np.ndarray, tokens: list[list[str]], entries: np.ndarray, counts: np.ndarray) -> tuple:
    """Return the hashes of each name's forms, their entries and which forms they are."""
    texts = {form: ([], []) for form in (WHOLE, SHORTER, PART, INITIALS)}
    for kind, entry, name in zip(kinds.tolist(), entries.tolist(), tokens, strict=True):
        forms = [(WHOLE, "".join(name)), (SHORTER, "".join(_shorter(kind, name)))]
        if kind == 0 and name[:1] != ["the"]:
            forms.append((SHORTER, "the" + "".join(name)))
        if kind == 0 and 2 <= len(name) <= 6:
            parts = {name[-1], *name[: len(name) == 2]} if "and" not in name and len(name) <= 4 else ()
            forms += [(PART, word) for word in parts if _can_name(word)]
            forms += [(INITIALS, "".join(word[0] for word in name))] * (len(name) > 2)
        for form, text in forms:
            if text:
                texts[form][0].append(text)
                texts[form][1].append(entry)
    columns = []
    for form, (text, entry) in texts.items():
        key, entry = hashes(text), np.array(entry, np.int64)
        keep = np.ones(len(key), bool)
        if form in (PART, INITIALS):
            keep = _dominant(key, counts[entry], entry) & (counts[entry] >= counts.sum() * LEAST)
        columns.append((key[keep], entry[keep], np.full(keep.sum(), form, np.uint8)))
    return tuple(np.concatenate(column) for column in zip(*columns, strict=True))


def _can_name(word: str) -> bool:
    return len(word) >= 5 and word.isalpha() and frequency(word) < RARE


def _dominant(keys: np.ndarray, counts: np.ndarray, entries: np.ndarray) -> np.ndarray:
    """Return True for the keys of an entry that has nearly all the tracks of all entries with this key."""
    pairs = pd.DataFrame({"key": keys, "entry": entries, "n": counts})
    alone = ~pairs.duplicated(["key", "entry"])
    total = pairs["n"].where(alone, 0).groupby(pairs["key"]).transform("sum")
    return (alone & (pairs["n"] >= DOMINANT * total)).to_numpy()


def _nicknames(nicknames: list[list[list[str]]], entries: np.ndarray, kinds: np.ndarray, forms: tuple) -> tuple:
    """Return the forms of the nicknames of the first entries' artists, but for those that are another artist's name."""
    pairs = [(name, entry) for own, entry in zip(nicknames, entries.tolist(), strict=False) for name in own]
    keys = hashes(["".join(name) for name, _ in pairs])
    artists = np.isin(forms[1], entries[kinds == 0]) & (forms[2] <= SHORTER)
    free = ~np.isin(keys, forms[0][artists])
    form = np.array([SHORTER if len(name) > 1 else PART for name, _ in pairs], np.uint8)
    return keys[free], np.array([entry for _, entry in pairs], np.int64)[free], form[free]


def _write_keys(folder: Path, *forms: tuple) -> None:
    """Write forms in the order of their hashes."""
    keys, entries, form = (np.concatenate(column) for column in zip(*forms, strict=True))
    order = np.lexsort((form, entries, keys))
    same = np.zeros(len(keys), bool)
    same[1:] = (keys[order][1:] == keys[order][:-1]) & (entries[order][1:] == entries[order][:-1])
    order = order[~same]  # a name's strongest form only
    np.save(folder / "keys.npy", keys[order])
    np.save(folder / "key_entries.npy", entries[order].astype(np.int32))
    np.save(folder / "key_forms.npy", form[order])


def _write_words(folder: Path, names: list[list[str]]) -> None:
    """Write the set of the sequences that names start with, and the words, the most frequent first, with deletions."""
    names = [name for name in names if len(name) <= SPAN]
    sizes = np.array([len(name) for name in names], int)
    codes, distinct = pd.factorize(np.array([word for name in names for word in name], dtype=object))
    starts, state, states = np.cumsum(sizes) - sizes, np.full(len(names), START), []
    word_hashes = hashes(distinct.tolist())
    for depth in range(sizes.max(initial=0)):
        starts, sizes, state = (x[sizes > depth] for x in (starts, sizes, state))
        state = join_hash(state, word_hashes[codes[starts + depth]])
        states += [np.unique(state), np.unique(join_hash(state[sizes == depth + 1], END))]
    np.save(folder / "sequences.npy", _set_of(np.concatenate(states) if states else np.zeros(0, np.uint64)))
    order = np.argsort(-np.bincount(codes, minlength=len(distinct)), kind="stable")
    vocabulary = distinct[order].tolist()
    _write_texts(folder / "words.feather", vocabulary)
    _write_deletions(folder, vocabulary)


def _write_texts(file: Path, texts: list[str]) -> None:
    feather.write_feather(pa.table({"text": pa.array(texts, pa.large_string())}), file, "uncompressed", chunksize=CHUNK)


def _set_of(values: np.ndarray) -> np.ndarray:
    """Return a set of hashes as bits: the first bits of a hash are the place of its bit."""
    size = 1 << max(10, int(np.ceil(np.log2(max(1, len(values)) * BITS))))
    bits = np.zeros(size, bool)
    bits[values >> np.uint64(64 - size.bit_length() + 1)] = True
    return np.packbits(bits, bitorder="little")


def _write_deletions(folder: Path, vocabulary: list[str], step: int = 50_000) -> None:
    """Write the hashes of all words with letters left out, in order, and the words' numbers."""
    keys, numbers = [np.zeros(0, np.uint32)], [np.zeros(0, np.int32)]
    for start in range(0, len(vocabulary), step):
        left_out = [deletions(word) for word in vocabulary[start : start + step]]
        keys.append((hashes([text for texts in left_out for text in texts]) >> np.uint64(32)).astype(np.uint32))
        numbers.append(np.repeat(np.arange(start, start + len(left_out), dtype=np.int32), [len(x) for x in left_out]))
    keys, numbers = np.concatenate(keys), np.concatenate(numbers)
    order = np.argsort(keys, kind="stable")
    np.save(folder / "deletions.npy", keys[order])
    np.save(folder / "deletion_words.npy", numbers[order])
