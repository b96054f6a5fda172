"""Titles of synthetic tracks and albums (titles.yaml), which do not depend on the mood."""

import numpy as np

from lib.tracks.moods import GENRES, LANGUAGES, load, row_of
from lib.tracks.wording import pick_two, worded

TITLES = load("titles.yaml")
TEMPLATES: dict[str, list[str]] = TITLES["templates"]
FOREIGN = [TITLES["languages"].get(code, {"whole": [""], "head": [""], "tail": [""]}) for code in LANGUAGES]
WORKS = ("classical", "opera", "minimalism", "raga")  # their albums are not called after one piece


def _form(genre) -> str:
    """Return the name of a genre's templates."""
    return next((name for name in (genre.name, genre.family) if name in TEMPLATES), "song")


FORMS = np.array([_form(genre) for genre in GENRES.values()])
SHARES = np.array([TITLES["in_language"].get(form, TITLES["in_language"]["other"]) for form in FORMS])


def draw(rng: np.random.Generator, slots: dict, genre: np.ndarray, language: np.ndarray) -> tuple[np.ndarray, ...]:
    """Draw a title and an album for each row. -> two of (n,) of str.

    Args:
        slots: keyname, place, artist and year of each row.
        genre: positions in GENRES.
        language: codes of the artists' languages; most titles are in the artist's language.
    """
    rows, form = np.arange(len(genre)), FORMS[genre]
    zeros, code = np.zeros(len(genre), int), row_of(LANGUAGES, language)
    for name, pool in TITLES["pools"].items():
        slots = slots | dict(zip((name, f"{name}2"), pick_two(rng, [pool], zeros), strict=True))
    foreign = {"whole": slots["whole"]}
    for name in ("whole", "head", "tail"):
        foreign[name], _ = pick_two(rng, [texts[name] for texts in FOREIGN], code)
    abroad = (language != "en") & (rng.random(len(genre)) < SHARES[genre])

    def titles() -> np.ndarray:
        out = np.empty(len(genre), dtype=object)
        for name in dict.fromkeys(FORMS):
            some = np.flatnonzero((form == name) & ~abroad)
            out[some] = worded(rng, TEMPLATES[name], slots, some)
        some = np.flatnonzero(abroad)
        out[some] = worded(rng, TITLES["foreign"], foreign, some)
        return out

    slots = slots | {"title": titles(), "other": titles()}
    works = np.isin(form, WORKS)
    album = np.empty(len(genre), dtype=object)
    for templates, some in ((TITLES["albums"], rows[~works]), (TITLES["albums_of_works"], rows[works])):
        album[some] = worded(rng, templates, slots, some)
    foreign_album = np.flatnonzero(abroad & (rng.random(len(genre)) < 0.7))
    album[foreign_album] = slots["other"][foreign_album]
    return slots["title"], album
