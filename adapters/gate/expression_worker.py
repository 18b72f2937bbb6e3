"""Judge CEL expressions: a program that `expressions.py` runs, with its jobs as JSON on standard input.

It imports nothing of the project, and prints a line of JSON for each policy. Each is judged in a fork, which is killed
when its time is over: an exception in this process could be caught by what evaluates the expression.
"""

from __future__ import annotations

import json
import multiprocessing
import re
import resource
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

import celpy
from celpy.adapter import json_to_cel
from celpy.celparser import CELParseError
from celpy.evaluation import CELEvalError

_FORK = multiprocessing.get_context("fork")
_MEMORY_BYTES = 1024**3
_DEPTH = 5000
_REASON = 300
# Beyond the first words celpy prints everything that the expression may see.
_BEYOND = re.compile(r"\s*\(in activation .*|\s*Activation\(.*", re.DOTALL)
_UNDECLARED = re.compile(r"undeclared reference to '([^']*)'")
_MISSING = re.compile(r"no such member in mapping: '([^']*)'")
_OVERLOAD = re.compile(r"no such overload|found no matching overload")
_KINDS = re.compile(r"(\w+)Type\b")


def main() -> None:
    """Judge each job within its time and memory."""
    request = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    sys.setrecursionlimit(_DEPTH)
    variables = {name: json_to_cel(value) for name, value in request["document"].items()}
    services = {service["name"]: json_to_cel(service) for service in request["document"]["services"]}
    for job in request["jobs"]:
        answer = _judge_in_fork(job, variables, services)
        print(json.dumps({"policy": job["policy"], **answer}), flush=True)


def _judge_in_fork(job: dict[str, Any], variables: dict[str, Any], services: dict[str, Any]) -> dict[str, Any]:
    reading, writing = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_judge, args=(writing, job, variables, services))
    process.start()
    writing.close()
    name, deadline = None, time.monotonic() + job["seconds"]
    try:
        while reading.poll(max(0.0, deadline - time.monotonic())):
            answer: dict[str, Any] = reading.recv()
            if "met" in answer:
                return answer
            name = answer["service"]
        return _not_judged(f"it took longer than {job['seconds']:g} s", name)
    except EOFError:
        process.join()
        return _not_judged(f"the process that judged it ended with code {process.exitcode}", name)
    finally:
        process.kill()
        process.join()


def _judge(answers: Connection, job: dict[str, Any], variables: dict[str, Any], services: dict[str, Any]) -> None:
    answers.send(_judge_document(answers, job, variables, services))


def _judge_document(
    answers: Connection, job: dict[str, Any], variables: dict[str, Any], services: dict[str, Any]
) -> dict[str, Any]:
    name = None
    try:
        program = celpy.Environment().program(celpy.Environment().compile(job["expression"]))
        if job["each"] is None:
            return _answer(program.evaluate(dict(variables)))
        failing = []
        for name in job["each"]:
            answers.send({"service": name})
            answer = _answer(program.evaluate(variables | {"service": services[name]}))
            if answer["met"] is None:
                return answer | {"services": [name]}
            if not answer["met"]:
                failing.append(name)
        return {"met": not failing, "services": failing}
    except MemoryError:
        return _not_judged("it needs more memory than 1 GiB", name)
    except RecursionError:
        return _not_judged("it is nested too deeply", name)
    except CELParseError:
        return _not_judged("it is not CEL", name)
    except CELEvalError as error:
        reason, missing = _explain(error)
        return _not_judged(reason, name, missing)
    except Exception as error:  # noqa: BLE001 - whatever an expression raises is an answer, and ends no other policy
        return _not_judged(f"{type(error).__name__}: {error}"[:_REASON], name)


def _answer(value: Any) -> dict[str, Any]:
    if isinstance(value, celpy.celtypes.BoolType | bool):
        return {"met": bool(value)}
    kind = type(value).__name__.removesuffix("Type").lower()
    return {"met": None, "reason": f"it gives {kind if value is not None else 'null'}, not true or false"}


def _explain(error: CELEvalError) -> tuple[str, str]:
    """A sentence on the error, and the field that the document does not have."""
    text = _BEYOND.sub("", str(error.args[0]) if error.args else str(error))
    if match := _MISSING.search(text):
        return f"there is no field {match[1]}", match[1]
    if match := _UNDECLARED.search(text):
        return f"there is no {match[1]}", ""
    if _OVERLOAD.search(text):
        kinds = list(dict.fromkeys(kind.lower() for kind in _KINDS.findall(str(error.args[-1]))))
        return f"it compares or calls what does not fit{': ' if kinds else ''}{', '.join(kinds)}", ""
    # What Python said is clearer than CEL's own word for it: list index out of range.
    details = error.args[2] if len(error.args) > 2 and isinstance(error.args[2], tuple) else ()
    return f"{text}{': ' if details else ''}{'; '.join(map(str, details))}"[:_REASON], ""


def _not_judged(reason: str, service: str | None, missing: str = "") -> dict[str, Any]:
    return {"met": None, "reason": reason, "missing": missing, "services": [service] if service else []}


if __name__ == "__main__":
    main()
