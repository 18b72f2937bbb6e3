"""The rotation of a password: its values, where they are written, and the servers that take them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from models.environments import Probe


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLogin:
    """A service that is a server, and a probe that logs in as a user whose password is rotated."""

    service: str
    probe: Probe

    def __str__(self) -> str:
        return f"{self.service}/{getattr(self.probe, 'user', '')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """A rotation that is neither proven nor undone: sealed in the data folder from before anything changes.

    `operation` is the id of the one that goes on with it. `old_text` and `new_text` are what `file` has of the values:
    the line that sets the variable `secret`, or, where the file `is_whole`, all of it. `services` ran when it began,
    and `servers` are the logins that are told.
    """

    operation: str
    secret: str
    old: str = field(repr=False)
    new: str = field(repr=False)
    file: str
    is_whole: bool
    old_text: str = field(repr=False)
    new_text: str = field(repr=False)
    services: tuple[str, ...]
    servers: tuple[str, ...]

    def reversed(self) -> Rotation:
        """The same with the values exchanged."""
        return replace(self, old=self.new, new=self.old, old_text=self.new_text, new_text=self.old_text)
