"""Bad releases: whether an update is back at the old one, and how soon a client gets right answers again."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Stack, report, stack
from benchmarks.updates.application import last_operation, place, roas, states, warm_up
from tests.support.ports import free_port
from tests.support.registry import Registry, image_id
from tests.support.versions import BAD, IN_ORDER, MIGRATION, SMOKE_TEST, AppVersion, Behaviour, Client, asking, web

_OLD = "1"
_LATE_SECONDS = 8
_UNHEALTHY_SECONDS = 2
_START_TIMEOUT_SECONDS = 12
_SEED = 11
_KINDS = (*BAD, Behaviour.SMOKE, Behaviour.MIGRATION)
_NEVER_SERVE = (Behaviour.CRASH, Behaviour.MIGRATION)
_HOLDS_SECONDS = 1.0
"""So long the old version has to answer after the command has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateEnd:
    """How the update to a bad version ended; `outage_seconds` is what a client saw of it."""

    behaviour: Behaviour
    outage_seconds: float
    took_seconds: float
    problems: tuple[str, ...]


def bad(folder: Path, rounds: int) -> bool:
    """So many updates to each kind of bad version, in random order."""
    kinds = [kind for kind in _KINDS for _ in range(rounds)]
    random.Random(_SEED).shuffle(kinds)
    ended: list[UpdateEnd] = []
    with place(folder) as images:
        port = free_port()
        images.publish("base", "ENV PART=base", *AppVersion(name=_OLD).lines())
        images.publish("web", *AppVersion(name=_OLD).lines())
        services = {
            "base": web(images.image("base")),
            "web": web(images.image("web"), port, depends_on={"base": {"condition": "service_healthy"}}),
        }
        probe = {"kind": "http", "port": 8080, "contains": IN_ORDER}
        specs = {"web": {"probe": probe, "start_timeout_seconds": _START_TIMEOUT_SECONDS}}
        hooks = {
            "before": [{"name": "migrate", "service": "web", "command": MIGRATION}],
            "after": [{"name": "smoke", "exec": {"service": "web", "command": SMOKE_TEST}}],
        }
        with stack(folder, "shop", services, services=specs, hooks=hooks) as made:
            roas("start", made.name)
            warm_up(folder)
            with asking(port) as client:
                for number, kind in enumerate(kinds, start=2):
                    version = AppVersion(name=f"{number}", behaviour=kind, after_seconds=_after(kind))
                    one = _update_to(version, made, images, client)
                    ended.append(one)
                    print(
                        f"{kind:10} old version right again after {one.outage_seconds:6.2f} s, "
                        f"command {one.took_seconds:6.2f} s {'; '.join(one.problems)}",
                        flush=True,
                    )
    for kind in _KINDS:
        _print_kind(kind, [one for one in ended if one.behaviour is kind])
    back = sum(not one.problems for one in ended)
    return report("back at the old version", back, f"of {len(kinds)}", least=len(kinds))


def _after(kind: Behaviour) -> int:
    return _LATE_SECONDS if kind is Behaviour.LATE else _UNHEALTHY_SECONDS


def _update_to(version: AppVersion, made: Stack, images: Registry, client: Client) -> UpdateEnd:
    digest = images.publish("web", *version.lines())
    before, name = states(made), image_id(images.image("web"))
    began = time.monotonic()
    code, said = roas("update", made.name, codes=range(256))
    took = time.monotonic() - began
    time.sleep(_HOLDS_SECONDS)
    answers = client.since(began)
    after, operation = states(made), last_operation(made.name)
    last = [one for one in answers if one.sent > began + took]
    problems = {
        f"exit code {code}: {said[-300:]}": code != 1,
        "not rolled back": "rolled_back_to" not in operation.details,
        "its image is not held back": not str(operation.details.get("held_back", {}).get("web")).endswith(digest),
        "another image runs": after.get("web", "").split()[-1:] != before["web"].split()[-1:],
        "another service was touched": after.get("base") != before["base"],
        "the image's name was not given back": image_id(images.image("web")) != name,
        "the old version does not answer": not all(one.is_right and one.version == _OLD for one in last),
        "the new version was never run": version.name not in {one.version for one in answers}
        and version.behaviour not in _NEVER_SERVE,
        "an image that is held back is taken again": _takes_again(made),
    }
    return UpdateEnd(
        behaviour=version.behaviour,
        outage_seconds=_back_after(client, began),
        took_seconds=took,
        problems=tuple(what for what, so in problems.items() if so),
    )


def _back_after(client: Client, since: float) -> float:
    """Seconds from the first request without the old version's right answer to its next that lasted."""
    answers = client.since(since)
    wrong = [one for one in answers if not one.is_right or one.version != _OLD]
    if not wrong:
        return 0.0
    back = [one for one in answers if one.sent > wrong[-1].sent]
    return (back[0] if back else wrong[-1]).ended - wrong[0].sent


def _takes_again(made: Stack) -> bool:
    before = states(made)
    roas("update", made.name)
    return states(made) != before


def _print_kind(kind: Behaviour, ended: Sequence[UpdateEnd]) -> None:
    if ended:
        times = sorted(one.outage_seconds for one in ended)
        report(f"{kind}: the old version answers again after, median", statistics.median(times), "s")
        report("  the slowest", times[-1], "s")
