"""Whole lines out of a stream of bytes."""

from __future__ import annotations

LONGEST_LINE = 32 * 1024
_CUT = b" [cut]"
_WORD = 4 * 1024


class LineAssembler:
    """Puts the lines of a stream together; of a line of more than 32 KiB the first ones are kept."""

    def __init__(self) -> None:
        self._begun = bytearray()
        self._is_cut = False

    def feed(self, data: bytes) -> list[str]:
        """The lines that these bytes complete, without their ends; bytes that are not UTF-8 become U+FFFD."""
        *ended, begun = data.split(b"\n")
        lines = []
        for part in ended:
            self._extend(part)
            lines.append(self._take())
        self._extend(begun)
        return lines

    def rest(self) -> list[str]:
        """The last line where the stream ended without an end of it."""
        return [self._take()] if self._begun else []

    def _extend(self, part: bytes) -> None:
        if self._is_cut:
            return
        room = LONGEST_LINE - len(self._begun)
        self._begun += part[:room]
        if len(part) <= room:
            return
        # Between words, since half a secret would not be known as one.
        space = self._begun.rfind(b" ", LONGEST_LINE - _WORD)
        if space > 0:
            del self._begun[space:]
        self._begun += _CUT
        self._is_cut = True

    def _take(self) -> str:
        line = bytes(self._begun).removesuffix(b"\r").decode("utf-8", "replace")
        self._begun.clear()
        self._is_cut = False
        return line
