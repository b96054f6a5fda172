"""Synthetic artists: names in the fashion of their genre and language, home towns, careers and fame."""

from itertools import count

import numpy as np
import pandas as pd
from faker import Faker
from faker.providers import DynamicProvider

from lib.tracks.moods import GENRES, LANGUAGES, MOODS, row_of
from lib.tracks.wording import PHRASES, pick

NAMES: dict[str, list[str]] = PHRASES["names"]  # a family of genres -> patterns
HOMES: dict[str, list[str]] = PHRASES["homes"]  # a genre, or a language -> towns
ABROAD = 0.12  # share of artists who sing in another language than most of their genre
HELD_OUT = {word for mood in MOODS.values() for split in ("dev", "test") for word in mood.words[split]}  # Misty
FAMILY_NAME_FIRST = ("ja", "ko")


def draw(k: int, seed: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draw `k` artists: name, genre (position in GENRES), language, place, since (a year), fame (1 is the least)."""
    genres = list(GENRES.values())
    genre = rng.permutation(np.arange(k) % len(genres))
    usual = np.array([g.languages[0] for g in genres], dtype=object)[genre]
    abroad = rng.random(k) < ABROAD
    language = np.where(abroad, pick(rng, [g.languages[1:] or g.languages for g in genres], genre), usual)
    fakers = {code: _faker(code, seed) for code in LANGUAGES}
    own = genre * len(LANGUAGES) + row_of(LANGUAGES, language)
    first, peak, last = np.array([(g.years[0], g.peak, g.years[1]) for g in genres])[genre].T
    return pd.DataFrame(
        {
            "name": _names(fakers, language, [genres[g].family for g in genre]),
            "genre": genre,
            "language": language,
            "place": pick(rng, [_homes(g, code) for g in genres for code in LANGUAGES], own),
            "since": rng.triangular(first, peak, last + 1).astype(int),
            "fame": np.sqrt(k / np.arange(1, k + 1)),  # Zipf: few artists have most tracks and most listeners
        }
    )


def _homes(genre, language: str) -> list[str]:
    """Return the towns that an artist of a genre may come from: those of the genre, or those of another language."""
    return HOMES.get(genre.name if language == genre.languages[0] else language, HOMES[language])


def _faker(language: str, seed: int) -> Faker:
    """Return a Faker with a fixed seed for artists who sing in `language`."""
    fake = Faker(LANGUAGES[language]["locale"], use_weighting=False)
    for name, words in (("band_adjective", "adjectives"), ("band_noun", "nouns")):
        fake.add_provider(DynamicProvider(name, PHRASES[words], fake))
    fake.add_provider(DynamicProvider("town", HOMES[language], fake))
    fake.seed_instance(seed)
    return fake


def _names(fakers: dict[str, Faker], languages: np.ndarray, families: list[str]) -> list[str]:
    """Draw a name for each artist, each name once. From the seventh draw on, an artist also gets a town."""
    names: dict[str, None] = {}
    for language, family in zip(languages, families, strict=True):
        for draw_number in count(1):
            name = _name(fakers[language], language, family)
            if draw_number > 6:
                name += f" of {fakers[language].town()}"
            if name not in names and not HELD_OUT & set(name.casefold().split()):
                break
        names[name] = None
    return list(names)


def _name(fake: Faker, language: str, family: str) -> str:
    person = "{{last_name}} {{first_name}}" if language in FAMILY_NAME_FIRST else "{{first_name}} {{last_name}}"
    pattern = fake.random_element(NAMES.get(family, NAMES["other"]))
    return fake.parse(pattern.replace("{{person}}", person))
