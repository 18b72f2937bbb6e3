"""What the public status page of an environment shows, as its file names it."""

from __future__ import annotations

from pydantic import Field

from models.fields import Name, Strict, Text


class StatusPage(Strict):
    """What the public status page of an environment shows, to everyone and without a sign-in."""

    title: Text = Field(description="What visitors read as its heading.")
    services: dict[Name, Text] = Field(
        min_length=1, description="The services it shows, each with the name that visitors read; no other is named."
    )
