"""What a probe of one container comes to: an outcome, or a failure that a user understands."""

from __future__ import annotations

from collections.abc import Mapping

from models.health import Reading

Outcome = tuple[str, tuple[Reading, ...]]
"""What a good answer said, and the numbers in it."""


class ProbeFailed(Exception):  # noqa: N818 - it is a result, not an error
    """The probe failed; the message is for the user: what failed, the server's own words, what to try."""


def password_of(secret: str | None, secrets: Mapping[str, str]) -> str | None:
    """The value of the secret that a probe names; None where it names none.

    Raises:
        ProbeFailed: The secret has no value.
    """
    if secret is None:
        return None
    if (value := secrets.get(secret)) is None:
        raise ProbeFailed(f"secret {secret} is not set, so it cannot authenticate")
    return value


def brief(text: str) -> str:
    """A text on one line of at most 200 characters."""
    words = " ".join(text.split())
    return f"{words[:200]}..." if len(words) > 200 else words or "(empty)"
