"""What a `roas` command of this machine prints as JSON, for programs that show the same as the command."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from adapters.host.own_command import run_own_command
from models.failures import BadInputError, RoasError

_WITHIN_SECONDS = 120.0
"""The plan of an update asks registries, which may be slow."""


async def ask_command(words: Sequence[str]) -> Any:
    """The document that `roas WORDS` prints; WORDS say that nothing is changed, and that JSON is wanted.

    Raises:
        BadInputError: The command ends with an error, which this one's text is.
        RoasError: The command takes too long.
    """
    try:
        async with asyncio.timeout(_WITHIN_SECONDS):
            result = await run_own_command(words, variables={}, report=lambda _line: None)
    except TimeoutError as error:
        raise RoasError(
            f"`roas {words[0]}` took more than {_WITHIN_SECONDS:.0f} s;", advice="run it in a terminal to see why."
        ) from error
    if result.code != 0:
        raise BadInputError(result.error or f"`roas {words[0]}` ended with exit code {result.code}.")
    return json.loads(result.out)
