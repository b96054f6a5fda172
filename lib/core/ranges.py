"""Ranges of parameters: one check for notebooks, parameter files and the capacity plan."""

import math
from collections.abc import Collection, Mapping
from numbers import Real


def check_ranges(
    values: Mapping[str, object], ranges: Mapping[str, tuple[float, float]], whole: Collection[str] = ()
) -> list[str]:
    """Return a message for each value outside its range: "users is 0, but must be at least 1".

    `ranges` has the least and the greatest allowed value of each name; a name without a range passes. The names in
    `whole` take whole numbers only.
    """
    messages = []
    for name, value in values.items():
        if name not in ranges:
            continue
        least, greatest = ranges[name]
        rule = f"between {least:,.12g} and {greatest:,.12g}" if greatest < math.inf else f"at least {least:,.12g}"
        if isinstance(value, bool) or not isinstance(value, int if name in whole else Real):
            rule = "a whole number" if name in whole else "a number"
        elif least <= value <= greatest:
            continue
        messages.append(f"{name} is {value!r}, but must be {rule}")
    return messages
