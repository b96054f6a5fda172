"""A query: a request and the turns before it, read by the catalogue's words, names and conditions."""

import re
import unicodedata

from lib.search.artists import Artists
from lib.search.conditions.facts import Facts
from lib.search.conditions.reading import FALLBACK, NOUNS
from lib.search.conditions.vocabulary import DATA, TROUBLES, Vocabulary, fold, words_of
from lib.search.names.mentions import Mention, Names
from lib.search.names.words import FOREIGN, words
from lib.search.turn import Phrase, Reading, read_turn
from lib.search.words import FILLERS, split

ENCODED = 6  # texts of a conversation that are encoded: earlier ones weigh less than a tenth of the request
ADDS = re.compile(r"\b(also|add|as well|plus|mix in|throw in|along with)\b|\btoo\W*$", re.I)
JOINS = re.compile(r"\W*(and|or)\b", re.I)  # "and some blues" after rock; "and slower" after fast ones replaces these
CORRECTS = re.compile(r"^\W*(no|nah|nope|not|actually|forget|scratch)\b|\b(instead|rather)\b", re.I)
AGAIN = re.compile(
    r"\W*((no|nah|ok|okay|hm+|play|give me|show me|try|any)\W+)*((some|any)thing (else|different)|(an)?others?( ones?)?"
    r"|(i )?(don['’]?t|do not|didn['’]?t) like (it|that|this|these|those|them|any( of (it|them|these))?)"
    r"|next( ones?)?|not (that|this|these|those)( ones?)?|more( of (that|this|these|those)| songs| music| tracks)?)"
    r"(\W+(please|pls))*\W*",
    re.I,
)
# "any decade" takes back a condition of earlier turns, "another decade" rejects it, and "somebody else" their artist.
ANY = re.compile(
    r"\b(?:any|whatever|forget the|(another|(?:a |some )?(?:different|other))) "
    r"(decade|year|era|genre|style|mood|tempo|speed|language)\b",
    re.I,
)
ASPECTS = {"year": "decade", "era": "decade", "style": "genre", "speed": "tempo"}
RESET = re.compile(
    r"^\W*(start (over|again|anew)|forget (it|that|all that|everything)|never ?mind(?! (?:about )?the)|scratch that)\b",
    re.I,
)
SHORT = 8  # words
# What stands for a mood and is encoded as it: words of other languages, and wishes, which the encoder knows less well.
SAID = {*FOREIGN, *(words_of(wish) for wishes in DATA["wishes"].values() for wish in wishes)}
FIGURES = {"decade": "new", "tempo": "fast"}  # conditions with figures, which an encoder does not know, and a value
OTHERS = re.compile(
    r"\bsome(?:body|one) else\b(?!['’])|\b(?:(?:an)?other|different) (?:artist|band|singer)s?\b"
    r"|\b(?:not|no more)(?: by| of| from)? (?:this|that|the same) (?:artist|band|singer)\b",
    re.I,
)
SAME = re.compile(r"\b(this|that|the same) (artist|band|singer|group|musician)|\b(by|from) (them|him|her)\b", re.I)


def read(names: Names, facts: Facts, artists: Artists, text: str, history=()) -> Reading:
    """Read a request and the turns before it, oldest first. A later turn overrides the conditions of earlier ones."""
    typed, skipped = _turns([unicodedata.normalize("NFKC", turn) for turn in (*history, text)])
    said = [_rest(RESET.sub("", typed[0])) if RESET.search(typed[0]) else typed[0], *map(_rest, typed[1:])]
    turns = _with_occasions([read_turn(names, facts, artists, turn) for turn in said], facts.vocabulary)
    wanted, unwanted, last = {}, {}, {}
    for typed_text, (turn, phrases) in zip(typed, turns, strict=True):
        _take_back(typed_text, wanted, unwanted, last)
        _same_artist(typed_text, names, wanted, last)
        adds = [*wanted] if ADDS.search(typed_text) else NOUNS if JOINS.match(typed_text) else []
        for condition, values in (turn.wanted | _moved(phrases, wanted.get("decade", ()))).items():
            before = wanted.get(condition, []) if condition in adds else []
            wanted[condition] = [*dict.fromkeys([*before, *values])]
            _drop(unwanted, condition, values)
        for condition, values in turn.unwanted.items():
            _drop(wanted, condition, values)
            unwanted[condition] = [*dict.fromkeys([*unwanted.get(condition, []), *values])]
        for use in ("named", "alike", "rejected"):  # the latest use of each name counts
            last |= {(mention.kind, mention.name): (use, mention) for mention in getattr(turn, use)}
    uses = {kind: [m for use, m in last.values() if use == kind] for kind in ("named", "alike", "rejected")}
    latest, own = turns[-1]
    refines = len(turns) > 1 and not _without(latest.texts[0], own)
    earlier = _earlier(turns, wanted if refines or CORRECTS.search(typed[-1]) else None)
    now = latest.texts[0]
    if now == FALLBACK and uses["alike"]:  # "somebody else"
        now = ", ".join(dict.fromkeys(facts.genre_of(names.rows(mention)) for mention in uses["alike"])) or now
    texts = [now, *filter(None, earlier)][:ENCODED]
    known = {condition for condition, value in FIGURES.items() if facts.mask(condition, value) is not None}
    answered = [p for _, phrases in turns for p in phrases if p.condition in known]
    figures = [p for p in answered if p.condition == "decade" or p.value.endswith("BPM")]
    texts = [" ".join(_without(text, figures).split()).strip(" ,;") or text for text in texts]
    moods = [
        p
        for _, phrases in turns
        for p in phrases
        if p.condition == "mood" and not {" ".join(words(p.text)), words_of(p.text)}.isdisjoint(SAID)
    ]
    texts = [_named(text, moods) for text in texts]
    wishes = "mood" in latest.wanted and not any("mood" in turn.wanted for turn, _ in turns[:-1])
    faded = frozenset() if refines else frozenset(wanted) - frozenset(latest.wanted)
    more = {"faded": faded, "refines": refines, "wishes": wishes, "skipped": skipped}
    return Reading(texts, wanted, unwanted, _negated(turns), **uses, missing=latest.missing, **more)


def _turns(typed: list[str]) -> tuple[list[str], int]:
    """Return the turns since the last new start that ask for something, and how often "something else" followed."""
    typed = typed[max([0, *(i for i, turn in enumerate(typed) if RESET.search(turn))]) :]
    again = [bool(AGAIN.fullmatch(turn)) for turn in typed]
    skipped = 0 if all(again) else again[::-1].index(False)
    return [turn for turn, more in zip(typed, again, strict=True) if not more] or typed, skipped


def _with_occasions(turns: list[tuple[Reading, list[Phrase]]], vocabulary: Vocabulary) -> list:
    """Return the turns; one of an occasion alone, "for a party" after "hip hop", asks for the moods that suit it."""
    asked, typed, result = False, False, []
    for turn, phrases in turns:
        moods = vocabulary.suiting(fold(turn.texts[0]))
        if moods and asked and not (turn.wanted or turn.unwanted or typed):
            turn = turn._replace(wanted={"mood": moods})
        asked |= bool(turn.wanted)
        typed |= turn.wanted.get("mood", moods) != moods  # a mood that was typed stays: "sad songs"
        result.append((turn, phrases))
    return result


def _negated(turns: list[tuple[Reading, list[Phrase]]]) -> list[str]:
    return [phrase for turn, _ in turns for phrase in turn.negated]


def _earlier(turns: list[tuple[Reading, list[Phrase]]], wanted: dict | None) -> list[str]:
    """Return the texts of the turns before the last one, latest first, without what later turns reject or change.

    `wanted`: the conditions that remain, if the last turn changes some.
    """
    texts = [turn.texts[0] for turn, _ in turns[-2::-1]]
    if wanted is not None:
        gone = [[p for p in phrases if p.value not in wanted.get(p.condition, ())] for _, phrases in turns[-2::-1]]
        texts = map(_without, texts, gone)
    rejected = [Phrase(phrase, "", "") for phrase in _negated(turns)]  # "sad piano", then "no piano"
    if "mood" in turns[-1][0].wanted:  # "I'm anxious", then "calm me down"
        rejected += [Phrase(word, "", "") for word in TROUBLES]
    return [_without(text, rejected) for text in texts] if rejected else [*texts]


def _is_short(turn: str) -> bool:
    """Return True for a turn of few words: in a long one, "other artists" may be any artists."""
    return len(turn.split()) <= SHORT


def _rest(turn: str) -> str:
    """Return a later turn without "any decade", "somebody else" and "this artist"."""
    rest = SAME.sub(" ", OTHERS.sub(" ", ANY.sub(" ", turn))) if _is_short(turn) else turn
    return rest if re.search(r"\w", rest) else FALLBACK


def _take_back(text: str, wanted: dict, unwanted: dict, last: dict) -> None:
    """Drop what "any decade" and "somebody else" take back of the turns before."""
    for other, aspect in ANY.findall(text.lower()):
        condition = ASPECTS.get(aspect, aspect)
        values = wanted.pop(condition, [])
        rejected = unwanted.pop(condition, [])
        if other and values:
            unwanted[condition] = [*dict.fromkeys([*rejected, *values])]
    if _is_short(text) and OTHERS.search(text) and (artists := wanted.pop("artist", [])):
        mentions = [mention for _, mention in last.values() if mention.name in artists]
        last |= {(m.kind, m.name): ("rejected", m) for m in mentions} | {
            ("near", m.name): ("alike", m) for m in mentions
        }
        unwanted["artist"] = [*unwanted.get("artist", []), *artists]


def _same_artist(text: str, names: Names, wanted: dict, last: dict) -> None:
    """Ask for the artist of a title that a turn before asked for: "more by this artist"."""
    titles = [key for key, (use, _) in last.items() if key[0] == "title" and use == "named"]
    if SAME.search(text) and not OTHERS.search(text) and titles and len(rows := names.rows(last[titles[-1]][1])):
        artist = names.artist_of(rows[0])
        del last[titles[-1]]
        wanted.pop("title", None)
        wanted["artist"], last["artist", artist] = [artist], ("named", Mention("artist", artist, 0, 0))


def _moved(phrases: list[Phrase], decades: list[str]) -> dict[str, list[str]]:
    """Return the decade that "older" or "newer" means after other decades; {} without one of these words."""
    typed = {phrase.text.casefold() for phrase in phrases}
    years = [int(year) for year in re.findall(r"\d{4}", " ".join(decades))]
    if years and typed & {"older", "newer"}:
        return {"decade": [f"before {min(years)}" if "older" in typed else f"since {max(years) + 10}"]}
    return {}


def _without(text: str, phrases: list[Phrase]) -> str:
    """Return a text without some phrases; "" if it asks for nothing else."""
    for phrase in phrases:
        text = re.sub(rf"(?:\b(?:from|in|of) (?:the )?)?(?<!\w){re.escape(phrase.text)}(?!\w)", " ", text)
    return text if set(split(text)) - FILLERS else ""


def _named(text: str, moods: list[Phrase]) -> str:
    """Return a text with the moods' own names instead of the wishes and foreign words for them."""
    for mood in moods:
        text = re.sub(rf"(?<!\w){re.escape(mood.text)}(?!\w)", mood.value, text)
    return text


def _drop(conditions: dict[str, list[str]], condition: str, values: list[str]) -> None:
    """Take values off a condition, and the condition if it has no other value."""
    if left := [value for value in conditions.pop(condition, []) if value not in values]:
        conditions[condition] = left
