"""Small drawings that stand beside words. A shape for each level: no colour alone tells one from another."""

from __future__ import annotations

_TICK = '<path class="line" d="M4.7 8.3l2.3 2.3 4.4-4.9"/>'
_SHAPES = {
    "brand": '<rect class="fill" x="1" y="1" width="14" height="14" rx="4"/>' + _TICK,
    "good": '<circle class="fill" cx="8" cy="8" r="7"/>' + _TICK,
    "unproven": '<circle class="edge" cx="8" cy="8" r="6.2"/><path class="edge" d="M4.9 8.3l2.2 2.2 4.1-4.6"/>',
    "warning": '<path class="fill" d="M8 1.2 15.4 14.4H.6z"/><path class="line" d="M8 6v4M8 12.2v.1"/>',
    "bad": '<path class="fill" d="M5 1h6l4 4v6l-4 4H5l-4-4V5z"/>'
    '<path class="line" d="M5.4 5.4l5.2 5.2m0-5.2-5.2 5.2"/>',
    "off": '<rect class="edge" x="2.5" y="2.5" width="11" height="11" rx="2"/>',
    "unknown": '<circle class="edge dashed" cx="8" cy="8" r="6.4"/>'
    '<path class="edge" d="M6.2 6.3a1.8 1.8 0 1 1 2.6 1.6c-.6.3-.8.6-.8 1.2M8 11.4v.1"/>',
    "busy": '<path class="edge" d="M8 1.8a6.2 6.2 0 1 1-6.2 6.2"/><path class="edge" d="M8 4.6V8l2.2 1.6"/>',
}


def draw_shape(name: str) -> str:
    """The parts of a drawing in a view box of 16 by 16: of a level, or of a name above."""
    return _SHAPES[name]
