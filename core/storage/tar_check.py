"""Check a tar archive while it passes: that it is complete, and how many files of what size it has."""

from __future__ import annotations

from models.failures import SnapshotError

_BLOCK = 512
_EMPTY = bytes(_BLOCK)
_FILE_TYPES = frozenset({b"0", b"\0", b"7"})


class TarCheck:
    """Reads the headers of an archive that is given to it in chunks of any size.

    The engine ends an archive early where a file became shorter while it was read, and reports no failure.
    """

    def __init__(self) -> None:
        self.files = 0
        self.bytes = 0
        self._skip = 0
        self._rest = b""
        self._empty_blocks = 0

    @property
    def unseen_bytes(self) -> int:
        """How many of the next bytes are the content of a file."""
        return 0 if self._rest else self._skip

    def skip(self, count: int) -> None:
        """Take note that so many bytes of content passed."""
        self._skip -= count

    def feed(self, chunk: bytes) -> None:
        """Take the next part of the archive.

        Raises:
            SnapshotError: It is no tar archive.
        """
        at, end = 0, len(chunk)
        if self._rest:
            lacking = _BLOCK - len(self._rest)
            at = min(lacking, end)
            self._rest += chunk[:at]
            if len(self._rest) < _BLOCK:
                return
            header, self._rest = self._rest, b""
            self._header(header)
        while at < end:
            skipped = min(self._skip, end - at)
            self._skip -= skipped
            at += skipped
            if at + _BLOCK > end:
                self._rest = bytes(chunk[at:])
                return
            self._header(chunk[at : at + _BLOCK])
            at += _BLOCK

    def finish(self) -> None:
        """Check that the archive had its end.

        Raises:
            SnapshotError: It ended early.
        """
        if self._skip or self._rest or self._empty_blocks < 2:
            raise SnapshotError(
                "A file became shorter while it was read, so the rest was not saved;",
                advice="save again, or set pause: true for this volume in the environment's data.",
            )

    def _header(self, header: bytes) -> None:
        if header == _EMPTY:
            self._empty_blocks += 1
            return
        self._empty_blocks = 0
        size = _number(header[124:136])
        self._skip = -(-size // _BLOCK) * _BLOCK
        if header[156:157] in _FILE_TYPES:
            self.files += 1
            self.bytes += size


def _number(field: bytes) -> int:
    """A number of a header: octal digits, or binary where the first bit says so."""
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.rstrip(b"\0 ") or b"0", 8)
    except ValueError as error:
        raise SnapshotError("What the engine sent is no tar archive.") from error
