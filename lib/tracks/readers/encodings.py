"""The encoding of a text file: its byte order mark, UTF-8, or the encoding in which its letters are the likeliest."""

import codecs
import math
import re
from collections import Counter, defaultdict
from functools import cache
from itertools import islice
from pathlib import Path
from unicodedata import category

import wordfreq
import yaml

from lib.core.errors import WorkbookError
from lib.tracks.readers.source import CONVERT

ENCODINGS = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8 with a BOM"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
BLOCK = 1 << 20  # bytes
UTF8 = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
CONTROL = re.compile(rb"[\x00-\x08\x0e-\x19\x1c-\x1f]")
SEPARATORS = re.compile(rb"[\x00-\x2f:;<=>?]+")  # no encoding has these bytes in a letter
COMMON = "’‘“”–—…«»°·•´№€™®©¡¿„‚\xa0，、。「」『』《》【】！？（）：；～・ー―　々〇"  # symbols that titles have
UNSEEN = -13.0  # the logarithm of the probability of letters that a language does not put together


def find(file: Path) -> tuple[str, str]:
    """Return Python's name of a text file's encoding, and its name for people.

    Raises:
        WorkbookError: the file is not text.
    """
    with file.open("rb") as opened:
        head = opened.read(BLOCK)
    for mark, codec, name in BOMS:
        if head.startswith(mark):
            return codec, name
    if b"\0" in head and (codec := _utf16(head)):
        return codec, "UTF-16 without a BOM"
    if b"\0" in head or head.startswith(b"%PDF-") or len(CONTROL.findall(head)) > len(head) / 200:
        raise WorkbookError(f"{file}: it is not a table (its bytes are not text). {CONVERT}.")
    lines = _evidence(file)
    text = b"\n".join(lines)
    if not lines:
        return "utf-8", "UTF-8"
    valid = UTF8.findall(text)
    broken = sum(len(part) for part in re.findall(rb"[\x80-\xff]+", UTF8.sub(b"", text)))
    if len(valid) >= broken:
        return "utf-8", "UTF-8"
    return _likeliest(lines, b"\n" not in head and b"\r" in head)


def _utf16(head: bytes) -> str:
    """Return the byte order of UTF-16: the zeros of its ASCII letters are all on one side."""
    zeros = [head[side::2].count(0) for side in (0, 1)]
    if min(zeros) * 20 > max(zeros) or max(zeros) < len(head) / 100:
        return ""
    codec = "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    text = head[: len(head) // 2 * 2].decode(codec, "replace")
    lines = text.count("\n") >= 0.8 * head.count(b"\n") > 0
    return codec if lines and text.count("\ufffd") < 2 and "\0" not in text else ""


def _evidence(file: Path) -> list[bytes]:
    """Return lines with bytes beyond ASCII, spread over the whole file (over 1 GB of it, where it is larger)."""
    lines, step = [], max(1, file.stat().st_size >> 30) * BLOCK
    each = max(40, 4_000_000_000 // max(1, file.stat().st_size))  # lines of a block: all of a small file
    with file.open("rb") as opened:
        for start in range(0, file.stat().st_size, step):
            opened.seek(start)
            block = opened.read(BLOCK)
            if start and not block.isascii():
                block = block[block.find(b"\n") + 1 :]  # a letter may be cut in two
            if not block.isascii():
                lines += islice((line for line in block.splitlines() if not line.isascii()), each)
    return lines[:: max(1, len(lines) // 4000)]


def _likeliest(lines: list[bytes], old_mac: bool) -> tuple[str, str]:
    """Return the encoding that makes the lines' words the likeliest, each word in its likeliest language."""
    words = Counter(word for line in lines for word in SEPARATORS.split(line) if not word.isascii())
    words, scores, texts = [word for word, _ in words.most_common(500)], {}, {}
    for codec, about in ENCODINGS.items():
        texts[codec] = [word.decode(codec, "replace") for word in words]
        scores[codec] = about["prior"] + 6 * (old_mac and codec == "mac_roman")
        scores[codec] += sum(likelihood(word, codec) for word in words)
    best, second = sorted(scores, key=scores.get)[:-3:-1]
    best = max((codec for codec in texts if texts[codec] == texts[best]), key=lambda codec: ENCODINGS[codec]["prior"])
    unsure = scores[best] - scores[second] < 5 and texts[best] != texts[second]
    other = f"; it may be {ENCODINGS[second]['name']}: see `reading`" if unsure else ""
    return best, f"{ENCODINGS[best]['name']}, by its letters{other}"


def likelihood(word: bytes, codec: str) -> float:
    """Return the logarithm of a word's likelihood in an encoding, in the language that suits it best."""
    text = f" {word.decode(codec, 'replace')} "
    return max(_score(text, language) for language in ENCODINGS[codec]["languages"])


def _score(text: str, language: str) -> float:
    """Return the log-likelihood of the letters beyond ASCII, and of those beside them."""
    pairs, letters = _model(language)
    total = 0.0
    for before, letter, after in zip(text, text[1:], f"{text[2:]} ", strict=False):
        if before <= "\x7f" and letter <= "\x7f":
            continue
        if letter > "\x7f" and not letter.isalpha():
            total += _symbol(before, letter, after)
        elif letter >= "\u2e80":
            total += letters.get(letter, UNSEEN) - 3 * (before.isalpha() and before <= "\u024f")
        elif before < "\u2e80":
            a, b = (c.lower()[0] if c.isalpha() else " " for c in (before, letter))
            total += pairs.get(a + b) or max(UNSEEN, letters.get(b, UNSEEN) - 4)
            mixed = letter >= "\u0370" and before.isascii() and before.isalpha()  # a Greek letter after a Latin one
            total -= 7 * (mixed or (before.islower() and letter.isupper()))
    return total


def _symbol(before: str, symbol: str, after: str) -> float:
    """Return the log-likelihood of a symbol: few stand inside a word, and no opening quote after a letter."""
    if symbol == "’":
        return -3
    if category(symbol)[0] == "C" or symbol == "\ufffd":
        return -25
    inside = before.isalpha() and (after.isalpha() or symbol in "„‚“‘«¡¿") and symbol not in "·・"
    return (-5 if symbol in COMMON else -16) - 8 * (inside and symbol < "\u2e80")


@cache
def _model(language: str) -> tuple[dict[str, float], dict[str, float]]:
    """Return the log-probabilities of a letter after another one, and of a letter alone."""
    pairs, firsts, letters = defaultdict(float), Counter(), Counter()
    ranks = enumerate(wordfreq.get_frequency_list(language, "small"))  # rank n: a frequency of 10 ** (-n / 100)
    for word, root in islice(((word, 10 ** (-n / 200)) for n, words in ranks for word in words), 10_000):
        for pair in zip(f" {word}", f"{word} ", strict=True):
            pairs[pair] += root
    for (a, b), n in pairs.items():
        firsts[a] += n
        letters[b] += n
    total = letters.total()
    return (
        {a + b: math.log(n / firsts[a]) for (a, b), n in pairs.items()},
        {letter: math.log(n / total) for letter, n in letters.items()},
    )
