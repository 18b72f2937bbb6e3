"""Policies that are commands: they get the document as JSON, and exit code 0 is "met"."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters.gate.programs import variables_of_programs
from adapters.host.programs import ProgramRun, run_beside
from core.common.safe_text import shorten
from models.gates import GatePolicy, PolicyAnswer

_KEPT_BYTES = 16 * 1024


async def judge_commands(
    policies: Sequence[GatePolicy], document: Mapping[str, Any], folder: Path
) -> dict[str, PolicyAnswer]:
    """Run the policies that have a command, all at the same time; the answer of each by its name."""
    command_policies = [policy for policy in policies if policy.command is not None]
    stdin = json.dumps(document).encode()
    answers = await asyncio.gather(*(_judge(policy, stdin, folder) for policy in command_policies))
    return {policy.name: answer for policy, answer in zip(command_policies, answers, strict=True)}


async def _judge(policy: GatePolicy, stdin: bytes, folder: Path) -> PolicyAnswer:
    words = policy.command or ()
    program = ProgramRun(
        words=words,
        variables=variables_of_programs(),
        limit_seconds=policy.timeout_seconds,
        most_bytes=_KEPT_BYTES,
        given=stdin,
        folder=folder,
    )
    try:
        result = await run_beside(program)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return PolicyAnswer(met=None, reason=f"{words[0]} cannot be run: {reason}")
    if result.code is None:
        reason = f"{words[0]} did not end within {policy.timeout_seconds:g} s"
        return PolicyAnswer(met=None, reason=reason)
    output = shorten(result.out) or shorten(result.err)
    if result.code < 0:
        return PolicyAnswer(met=None, reason=f"{words[0]} {result.ending}")
    return PolicyAnswer(met=result.code == 0, reason=output or f"{words[0]} {result.ending}")
