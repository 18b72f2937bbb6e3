"""Write quantities for a person, in the unit that suits them."""

from __future__ import annotations


def size_in_words(count: float) -> str:
    """A number of bytes, such as 12 MiB."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def age_in_words(seconds: float) -> str:
    """How long ago something was, such as 3 d."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
