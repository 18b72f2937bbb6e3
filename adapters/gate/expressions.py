"""Judge the expressions of a gate's policies, in CEL, in a process of its own.

The other process bounds what a hostile or unlucky expression takes: time, memory and depth.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters.gate.programs import variables_of_programs
from adapters.host.programs import ProgramRun, run_beside
from core.deployment.gate import changed_services, is_about_one_service
from models.gates import GatePolicy, PolicyAnswer

_WORKER = Path(__file__).with_name("expression_worker.py")
_STARTS_WITHIN_SECONDS = 30.0
_ANSWER_BYTES = 1024 * 1024


async def judge_expressions(policies: Sequence[GatePolicy], document: Mapping[str, Any]) -> dict[str, PolicyAnswer]:
    """Judge the policies that have an expression; the answer of each by its name."""
    expression_policies = [policy for policy in policies if policy.expression is not None]
    if not expression_policies:
        return {}
    jobs = [
        {
            "policy": policy.name,
            "expression": policy.expression,
            "seconds": policy.timeout_seconds,
            "each": changed_services(document) if is_about_one_service(policy.expression or "") else None,
        }
        for policy in expression_policies
    ]
    program = ProgramRun(
        words=[sys.executable, "-I", str(_WORKER)],
        variables=variables_of_programs(),
        limit_seconds=_STARTS_WITHIN_SECONDS + 2 * sum(policy.timeout_seconds for policy in expression_policies),
        most_bytes=_ANSWER_BYTES,
        given=json.dumps({"document": document, "jobs": jobs}).encode(),
    )
    result = await run_beside(program)
    answers: dict[str, PolicyAnswer] = {}
    for line in result.out.splitlines():
        try:
            answer = json.loads(line)
        except ValueError:
            # The process was killed while it wrote.
            continue
        name, services = answer.pop("policy"), tuple(answer.pop("services", ()))
        answers[name] = PolicyAnswer(**answer, services=services)
    how = "took too long" if result.code is None else result.ending
    no_answer = PolicyAnswer(met=None, reason=f"the process that judges expressions {how}")
    return {policy.name: no_answer for policy in expression_policies} | answers
