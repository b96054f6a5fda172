"""The style of pictures: letters of all scripts, names beside dots."""

import warnings

import matplotlib.pyplot as plt
import pytest
from matplotlib.text import Annotation

from lib.core import style
from lib.tracks import pictures, synthetic

HINDI, RARE = "दिल", "\U000e0fff"  # a script that many systems have a font for; a letter that no font has


def test_letters_are_drawn_in_a_font_that_has_them_and_never_as_boxes():
    figure, axes = plt.subplots()
    axes.barh([f"rare {RARE}{RARE} name", f"銀色の鍵 {HINDI} é"], [1, 2])
    axes.set_title(f"{RARE} first")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a glyph that no font has
        style.described(figure)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[0] == "rare … name" and axes.get_title("left") == "… first" and labels[1].endswith(" é")
    if style.font_of(HINDI[0]):
        assert HINDI in labels[1] and style.font_of(HINDI[0]) in axes.get_yticklabels()[1].get_fontfamily()
    assert style.font_of("a") == style.USUAL and style.font_of(RARE) is None


@pytest.mark.parametrize("measured", [True, False])
def test_names_in_the_plane_touch_no_dot_and_no_other_name(measured):
    tracks = synthetic.generate(600, seed=1)
    figure = pictures.plane(tracks if measured else tracks.assign(energy=None, valence=None))
    names = [text for text in figure.axes[0].texts if isinstance(text, Annotation)]
    dots = figure.axes[0].collections[-1]
    places = figure.axes[0].transData.transform(dots.get_offsets())
    boxes = [name.get_window_extent() for name in names]
    assert len(boxes) == 18 and not any(box.contains(*place) for box in boxes for place in places)
    assert all(box.count_overlaps(boxes) == 1 for box in boxes)  # itself
