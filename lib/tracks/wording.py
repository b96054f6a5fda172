"""How tracks are worded: registers of description, tags, titles and artists' names, filled by whole columns.

A template's `{slot}` is a column of phrases, a row a track. Each register is a sequence of banks; a description takes
one template of each bank, so that a few dozen templates make thousands of forms and no model can learn just one.
"""

from __future__ import annotations

from string import Formatter
from typing import NamedTuple

import numpy as np
from faker import Faker
from faker.providers import BaseProvider

from lib.tracks.moods import LANGUAGES


class Register(NamedTuple):
    """A way of describing: its share of descriptions, its banks of templates, and those that say nothing of mood."""

    share: float
    told: tuple[tuple[str, ...], ...]
    untold: tuple[tuple[str, ...], ...]


REGISTERS = {
    "editorial": Register(
        0.2,
        (
            (
                "{Critic}, this {genre} track from {year} sets {instrument} against {sound}.",
                "Rarely has {genre} from {artist} been so {word}.",
                "On “{album}” the {genre} of {artist} turns {word} and {word2}.",
                "Opening with {instrument}, the {year} recording soon grows {word}.",
                "{A_word} piece of {decade} {genre} from {place}, carried by {instrument} and {instrument2}.",
                "There is {a_word} heart beating under the {instrument} here.",
            ),
            (
                " {Sound} completes the picture, with {vocals}.",
                " {Instrument2} answers {instrument}, with {vocals}.",
                " {Sound} and {sound2} do the rest.",
                " Over {a_tempo} beat you hear {sound}, with {vocals}.",
                " It is {critic}.",
                "",
            ),
            (
                " It is made for {activity}.",
                " Best heard {time}.",
                " A natural pick for playlists such as {playlist}.",
                " For fans of {like}.",
                " The result is {word2}, and {critic}.",
                "",
            ),
        ),
        (
            (
                "This {decade} {genre} track sets {instrument} against {instrument2}.",
                "{artist} recorded it in {place} in {year}: {genre} with {instrument} up front.",
                "From the album “{album}”: {genre}, {instrument} first, {instrument2} second.",
            ),
            (" {Vocals}.", " For fans of {like}.", " {Tempo_word}, about {bpm} beats a minute.", ""),
        ),
    ),
    "plain": Register(
        0.2,
        (
            (
                "{A_tempo} {genre} song with {instrument}, {instrument2} and {vocals}.",
                "The song is {genre}: {instrument} over {sound}, {tempo_word}, {vocals}.",
                "{Instrument}, {instrument2} and {sound}, with {vocals}.",
                "{Instrument} up front and {instrument2} to keep it moving, with {vocals}.",
                "A recording of {genre} with {sound} and {sound2}. {Vocals}.",
            ),
            (
                " It sounds {word} and {word2}.",
                " The mood is {word}.",
                " The feeling is {word}, even {word2}.",
                " The atmosphere is {word}; it could accompany {activity}.",
                " It feels {word}, like music for {activity}.",
            ),
        ),
        (
            (
                "{A_tempo} {genre} song with {instrument}, {instrument2} and {vocals}.",
                "{Instrument} and {instrument2}. {Vocals}.",
                "A recording of {genre}: {instrument} leads, {instrument2} follows.",
            ),
        ),
    ),
    "long": Register(
        0.2,
        (
            (
                "{A_tempo} {genre} piece, mostly {instrument}.",
                "We hear {instrument} and {instrument2}, {tempo_word}, in the style of {decade} {genre}.",
                "{Vocals}, and behind it {instrument}.",
                "A {genre} recording from {place}. {Instrument} starts alone, then {instrument2} joins.",
            ),
            (
                " In the background there is {sound}; later {sound2}.",
                " {Sound} gives it its colour, and {instrument2} fills the gaps.",
                " One also notices {sound}, {sound2} and {vocals}.",
                " The arrangement adds {sound}. There is {vocals}.",
            ),
            (
                " The whole is {word} and {word2}.",
                " It leaves {a_word} impression.",
                " Everything about it is {word}.",
                " {Word} and {word2} from start to finish.",
            ),
            (
                " It would suit {activity}.",
                " One can imagine it at {activity}, or {time}.",
                " People play it {time}.",
                "",
            ),
        ),
        (
            (
                "{A_tempo} {genre} piece, mostly {instrument}.",
                "We hear {instrument} and {instrument2}, {tempo_word}, in the style of {decade} {genre}.",
            ),
            (" {Instrument2} answers. There is {vocals}.", " It was recorded in {place} in {year}, with {vocals}."),
        ),
    ),
    "listener": Register(
        0.2,
        (
            (
                "this one {listener}. ",
                "I play it {time}. ",
                "found this {time}, been on repeat since. ",
                "perfect for {activity}! ",
                "on my {playlist} playlist, obviously. ",
                "If you like {like}, try this. ",
                "I put this on for {activity} and it {listener}. ",
                "ok so {artist} can do {word}. ",
            ),
            (
                "So {word}.",
                "{Word}, {tempo_word}, {instrument} and {vocals}.",
                "love the {instrument}, very {word}",
                "{Genre} at its most {word2}.",
                "{sound}, {sound2}… {word2} all the way through",
            ),
        ),
        (
            (
                "if you like {like} you will like this. ",
                "heard it in a café in {place}. ",
                "one more by {artist}. ",
                "my uncle had this on tape. ",
            ),
            ("good {genre}, nice {instrument}", "Love the {instrument}.", "{vocals}, {instrument}, {tempo_word}"),
        ),
    ),
    "tags": Register(
        0.08,
        (
            (
                "{word}, {genre}, {instrument}, {sound}, {tempo_word}",
                "{genre} / {word} / {word2} / {decade}",
                "{decade}, {genre}, {word}, {activity}, {vocals}",
                "mood: {word}, {word2}; genre: {genre}; instruments: {instrument}, {instrument2}",
            ),
        ),
        (("{genre}, {instrument}, {instrument2}, {tempo_word}", "{genre} / {decade} / {instrument}"),),
    ),
    "metadata": Register(
        0.12,
        (
            (
                "{Genre}, {year}. {bpm} BPM, {keyname}. {Word}.",
                "{Genre} ({decade}), {tempo_word}, {word}, {vocals}.",
                "{bpm} BPM {genre} in {keyname}; mood {word}.",
            ),
        ),
        (
            (
                "{Genre}, {year}. {bpm} BPM, {keyname}.",
                "{bpm} BPM, {keyname}, {genre}.",
                "{Genre}; {instrument}, {instrument2}; recorded in {place}, {year}.",
            ),
        ),
    ),
}
TAGS = (
    "{genre}, {word}, {instrument}, {vocals}, {tempo_word}, {sound}",
    "{word}, {word2}, {instrument}, {instrument2}, {sound}, {genre}",
    "{tempo_word}, {genre}, {sound}, {sound2}, {instrument}, {vocals}, {word}",
    "{vocals}, {instrument}, {sound}, {word}, {activity}",
    "{decade}, {genre}, {word}, {word2}",
)
SILENT_TAGS = ("{genre}, {instrument}, {instrument2}, {tempo_word}, {vocals}", "{decade}, {genre}, {instrument}")
TITLES = ("{title}", "{title}", "{title} {title2}", "The {title}", "{title} in {place}", "{title} Again",
          "{title} & {title2}", "My {title}", "No More {title}", "{title} of the {noun}", "{noun} {title}",
          "{title} and the {noun}")  # fmt: skip
FOREIGN_TITLES = ("{foreign}", "{foreign}", "{foreign}", "{foreign} / {foreign2}")
ALBUMS = ("{title}", "{title} & {title2}", "The {title} Sessions", "Live in {place}", "{title2}", "After the {title}")
VERSIONS = ("", " - Live", " - Remastered", " (Acoustic)", " - Radio Edit", " (Demo)")
INSTRUMENTAL = ("no vocals", "no singing", "a wordless melody", "no voice at all")
ADJECTIVES = (
    "Silver", "Paper", "Hollow", "Electric", "Little", "Broken", "Golden", "Distant", "Crimson", "Wild",
    "Silent", "Northern", "Velvet", "Iron", "Lucky", "Second", "Bitter", "Tall", "Plastic", "Weary",
    "Concrete", "Early", "Amber", "Crooked", "Famous", "Marble", "Lost", "Neon",
)  # fmt: skip
NOUNS = (
    "Lantern", "Hawk", "Harbour", "Engine", "Sparrow", "Mirror", "Satellite", "Orchard", "Tiger", "Signal",
    "River", "Kingdom", "Window", "Ghost", "Arrow", "Garden", "Rider", "Comet", "Needle", "Carousel", "Mountain",
    "Pilot", "Canyon", "Violet", "Sailor", "Clock", "Heron", "Furnace", "Saint", "Ladder", "Meteor", "Otter",
    "Elevator", "Cathedral", "Island", "Dancer", "Prophet", "Bicycle", "Magnolia", "Anchor",
)  # fmt: skip
# How artists of a family of genres call themselves, in Faker's own format language.
BANDS = (
    "The {{band_noun}}s",
    "{{band_adjective}} {{band_noun}}",
    "{{last_name}} & the {{band_noun}}s",
    "{{band_noun}}",
)
NAMES = {
    "hip hop": ("Lil {{first_name}}", "MC {{last_name}}", "{{first_name}} {{band_noun}}", "Young {{last_name}}",
                "DJ {{band_noun}}"),
    "rock": BANDS,
    "metal": ("{{band_adjective}} {{band_noun}}", "{{band_noun}}", "{{band_noun}} of {{band_noun}}s", "{{last_name}}"),
    "electronic": ("DJ {{first_name}}", "{{band_noun}}", "{{person}}", "{{band_adjective}} Machine",
                   "{{last_name}} & {{last_name}}"),
    "ambient": ("{{band_adjective}} {{band_noun}}", "{{person}}", "{{band_noun}} Field"),
    "jazz": ("{{person}}", "{{last_name}} Trio", "{{person}} Quartet", "The {{last_name}} Big Band"),
    "classical": ("{{person}}", "{{last_name}} Quartet", "{{city}} Chamber Orchestra", "Ensemble {{last_name}}"),
    "soundtrack": ("{{person}}", "{{city}} Philharmonic", "{{last_name}} & {{last_name}}"),
    "blues": ("{{person}}", "Blind {{first_name}} {{last_name}}", "{{first_name}} & the {{band_noun}}s"),
    "country": ("{{person}}", "The {{last_name}} Family", "{{first_name}} & the {{band_noun}}s"),
}  # fmt: skip
OTHER_NAMES = ("{{person}}", "{{person}}", "{{first_name}}", "{{first_name}} & {{first_name}}", *BANDS)


class MusicProvider(BaseProvider):
    """What Faker lacks: names that artists of a family of genres would give themselves."""

    order = "{{first_name}} {{last_name}}"

    def band_adjective(self) -> str:
        """A word that bands put first."""
        return self.random_element(ADJECTIVES)

    def band_noun(self) -> str:
        """A word that bands call themselves."""
        return self.random_element(NOUNS)

    def person(self) -> str:
        """A whole name without titles such as Dr."""
        return self.generator.parse(self.order)

    def artist(self, family: str) -> str:
        """An artist's name in the fashion of the family."""
        return self.generator.parse(self.random_element(NAMES.get(family, OTHER_NAMES)))


class FamilyNameFirst(MusicProvider):
    """The same where the family name comes first."""

    order = "{{last_name}} {{first_name}}"


def faker(language: str, seed: int) -> Faker:
    """A seeded Faker for artists who sing in `language`, with the provider above."""
    fake = Faker(LANGUAGES[language]["locale"], use_weighting=False)
    fake.add_provider(FamilyNameFirst if language in ("ja", "ko") else MusicProvider)
    for provider in fake.get_providers():
        if hasattr(provider, "cities"):  # Italian ones come in the order of a set, another in each process
            provider.cities = sorted(provider.cities)
    fake.seed_instance(seed)
    return fake


def describe(rng: np.random.Generator, slots: dict[str, np.ndarray], silent: np.ndarray) -> np.ndarray:
    """A description for each row, in a register drawn by share. `silent`: rows that say nothing of mood. -> (n,)."""
    register = rng.choice(len(REGISTERS), len(silent), p=[register.share for register in REGISTERS.values()])
    out = np.full(len(silent), "", dtype=object)
    for i, (_, told, untold) in enumerate(REGISTERS.values()):
        for banks, quiet in ((told, False), (untold, True)):
            rows = np.flatnonzero((register == i) & (silent == quiet))
            for bank in banks:
                out[rows] += worded(rng, bank, slots, rows)
    noisy = (register == list(REGISTERS).index("listener")) & (rng.random(len(out)) < 0.25)
    out[noisy] = [_typo(text, where) for text, where in zip(out[noisy], rng.random(noisy.sum()), strict=True)]
    return out


def worded(rng: np.random.Generator, templates: tuple[str, ...], slots: dict, rows: np.ndarray) -> np.ndarray:
    """One of the templates, drawn for each of the given rows and filled. -> (rows,)."""
    which = rng.integers(0, len(templates), len(rows))
    out = np.empty(len(rows), dtype=object)
    for i, template in enumerate(templates):
        mine = which == i
        out[mine] = fill(template, slots, rows[mine])
    return out


def fill(template: str, slots: dict[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    """A template's `{slots}` filled for the given rows, by whole columns rather than row by row. -> (rows,).

    A slot named with a capital is its lower-case slot with the first letter in upper case.
    """
    out = np.full(len(rows), "", dtype=object)
    for literal, name, _, _ in Formatter().parse(template):
        out = out + literal
        if name:
            out = out + (slots[name][rows] if name in slots else capitalised(slots[name[0].lower() + name[1:]][rows]))
    return out


def pick(rng: np.random.Generator, choices: list[list], group: np.ndarray) -> np.ndarray:
    """One random choice for each row, from the list of the row's group. (n,) -> (n,)."""
    return pick_two(rng, choices, group)[0]


def pick_two(rng: np.random.Generator, choices: list[list], group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two different choices for each row (the same one twice only where the list has no other). (n,) -> (n,), (n,)."""
    sizes = np.array([len(c) for c in choices])
    starts = np.concatenate([[0], sizes.cumsum()[:-1]])[group]
    flat = np.array([word for c in choices for word in c], dtype=object)
    size = sizes[group]
    first = (rng.random(len(group)) * size).astype(int)
    second = (first + 1 + (rng.random(len(group)) * (size - 1)).astype(int)) % size
    return flat[starts + first], flat[starts + second]


def capitalised(words: np.ndarray) -> np.ndarray:
    """Each phrase with its first letter in upper case."""
    return np.array([word[:1].upper() + word[1:] for word in words], dtype=object)


def with_article(words: np.ndarray) -> np.ndarray:
    """Each phrase after "a" or "an", by its first letter."""
    known = {word: ("an " if word[:1].lower() in "aeiou" else "a ") + word for word in set(words)}
    return np.array([known[word] for word in words], dtype=object)


def _typo(text: str, where: float) -> str:
    """Two neighbouring letters of a word swapped, as fast fingers do: the first such pair after a place (0 to 1)."""
    for i in range(max(1, int(where * len(text))), len(text) - 1):
        if text[i - 1 : i + 2].isalpha() and text[i : i + 2].islower():
            return text[:i] + text[i + 1] + text[i] + text[i + 2 :]
    return text
