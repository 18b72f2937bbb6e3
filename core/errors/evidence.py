"""Judge evidence: what failed first, which lines show it, and what fits into a bundle."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import takewhile

import re2

from core.common.dependencies import reachable
from core.common.exit_codes import LEFT_THE_FOREGROUND, describe_exit
from core.common.safe_text import shorten
from core.common.stamps import stamp_of, without_stamp
from core.errors.classify import reports_failure
from core.errors.decisive import first_together, is_bare_name, is_loud, is_remark, last_run, outer_exceptions
from core.errors.match import GENERIC, WRAPPER, PatternSet
from core.errors.reading import without_frames
from models.containers import ContainerEvent, ContainerState
from models.errors import Category, Evidence
from models.evidence import (
    ContainerEvidence,
    EvidenceBundle,
    LogExcerpt,
    MemoryFinding,
    MemoryGrade,
    MemorySigns,
    ProbeOutput,
)

_EARLY = datetime.min.replace(tzinfo=UTC)
LATE = datetime.max.replace(tzinfo=UTC)

_KILLED = 137
_SIGKILL = "9"
_ENDED = frozenset({"exited", "dead", "restarting"})
_LEADING_UP = 2
_JUST_NOW = timedelta(seconds=15)
_LEADS_ON = re2.compile(
    r"^(?:[\w.-]+ +\| ?)?(?:Traceback \(most recent call last\):|During handling of the above exception, .*"
    r"|The above exception was the direct cause of .*|[\s~^|]+|\s+raise \w[^\n]*)$"
)
"""A line of a traceback of Python that leads to the next one."""

_TRACEBACK = "Traceback (most recent call last):"

_ENDING = timedelta(seconds=1)
"""A check this soon before a container's end may have met a program that was dying: it shows the end, not its cause."""


def grade_memory(
    container_state: ContainerState, signs: MemorySigns, events: Sequence[ContainerEvent] | None = None
) -> MemoryFinding:
    """Judge whether the kernel killed a container for its memory use.

    Proven by a sign of the kernel or the engine. Exit code 137 is SIGKILL, which the engine also sends when a stop
    exceeds its grace period; so it is probable only if the events show that no stop was requested.
    """
    limit = container_state.memory_limit_bytes
    of = f" (limit {limit // (1024 * 1024)} MiB)" if limit else ""
    container_events = [event for event in events or () if event.container_id == container_state.container_id]
    kills = sum(event.action == "oom" for event in container_events)
    proofs = {
        "the engine says so": container_state.oom_killed,
        f"the engine reported it {_times(kills)}": kills,
        f"the kernel counts {signs.oom_kills}": signs.oom_kills,
        "the kernel's log names its container": signs.kernel_lines,
    }
    by = ", ".join(words for words, holds in proofs.items() if holds)
    killed = f"killed for using too much memory{of}"
    sigkill = container_state.state in _ENDED and container_state.exit_code == _KILLED
    if by:
        who = "" if sigkill else "a process in it was "
        return MemoryFinding(grade=MemoryGrade.PROVEN, sentence=f"{who}{killed}: {by}")
    actions = {event.action for event in container_events}
    if sigkill and "die" in actions and not actions & {"stop", "kill"}:
        why = f"probably {killed}: exit code 137, and no stop was requested"
        return MemoryFinding(grade=MemoryGrade.PROBABLE, sentence=why)
    return MemoryFinding()


def container_evidence(
    container_state: ContainerState, signs: MemorySigns, events: Sequence[ContainerEvent] | None = None
) -> ContainerEvidence:
    """Return the evidence of one container."""
    ended = container_state.state in _ENDED
    refused = container_state.state == "created" and bool(container_state.error)
    finding = grade_memory(container_state, signs, events)
    return ContainerEvidence(
        service=container_state.service,
        name=container_state.name,
        container_id=container_state.container_id,
        image=container_state.image,
        state=container_state.state,
        exit_code=container_state.exit_code if ended else None,
        ended=_end_in_words(container_state, finding) if ended else container_state.error if refused else "",
        memory=finding,
        memory_signs=signs,
        memory_limit_bytes=container_state.memory_limit_bytes,
        restart_count=container_state.restart_count,
        health=container_state.health,
        started_at=container_state.started_at,
        finished_at=container_state.finished_at,
    )


def first_cause(
    service: str,
    needs: Mapping[str, Sequence[str]],
    containers: Sequence[ContainerEvidence],
    logs: Sequence[LogExcerpt],
    probes: Sequence[ProbeOutput],
    patterns: PatternSet,
) -> tuple[str, str]:
    """Return the service that failed first among a service and its dependencies, and a sentence how.

    `needs` maps a service to its dependencies. A failed dependency comes before its dependant; of several without a
    failed dependency the earliest counts.
    """
    failed = {name for name in (service, *reachable(service, needs)) if _failure(name, containers, probes)}
    first = [name for name in failed if not failed.intersection(reachable(name, needs))]
    if not first:
        waits = _last_line(service, containers, logs) or _words_of_dependencies(
            service, needs, containers, logs, patterns
        )
        return service, f"{service} {_state_in_words(service, containers, probes)}{waits}"
    cause = min(first, key=lambda name: (_begin_of(name, containers, probes) or LATE, name))
    sentence = f"{cause} {_failure(cause, containers, probes)}"
    if cause != service:
        sentence += f"; {service} needs it"
    starts = [state.started_at for state in containers if state.service == cause and state.started_at is not None]
    line = best_line(cause, logs_of_failed(cause, containers, logs), patterns, max(starts, default=None))
    if line is None:
        return cause, f"{sentence}{_last_line(cause, containers, logs)}"
    for name in reachable(cause, needs):
        if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", line) and _ended_well(name, containers):
            return name, f'{name} ended with {LEFT_THE_FOREGROUND}; {cause} needs it, and said "{line}"'
    return cause, f'{sentence}; it said "{line}"'


def shows_failure(bundle: EvidenceBundle) -> bool:
    """Whether anything in a bundle shows that the service or a dependency failed."""
    return bundle.cause_service != bundle.service or bool(_failure(bundle.service, bundle.containers, bundle.probes))


def time_of_failure(bundle: EvidenceBundle) -> datetime | None:
    """Return when the first cause of a bundle began: at the first crash of a series; None if unknown."""
    since = _begin_of(bundle.cause_service, bundle.containers, bundle.probes)
    for container in bundle.containers:
        if container.service == bundle.cause_service and container.restart_count and container.state in _ENDED:
            ends = [
                e.happened_at for e in bundle.events if e.container_id == container.container_id and e.action == "die"
            ]
            # Older ends belong to earlier starts: the engine counts from the last time it was asked to start it.
            since = min([*ends[-container.restart_count - 1 :], since or LATE])
    return since


def logs_of_failed(
    service: str, containers: Sequence[ContainerEvidence], logs: Sequence[LogExcerpt]
) -> tuple[LogExcerpt, ...]:
    """Return the log of the container of a service that failed: beside it an earlier one may still serve."""
    service_containers = [container for container in containers if container.service == service]
    failed = _worst(service_containers).name if service_containers else ""
    of_service = tuple(log for log in logs if log.service == service)
    return tuple(log for log in of_service if log.container == failed) or of_service


def _worst(containers: Sequence[ContainerEvidence]) -> ContainerEvidence:
    """Return the container of a service that fails; of several the one that was started last."""
    return max(
        containers,
        key=lambda container: (
            container.state != "running",
            container.health == "unhealthy",
            container.restart_count,
            container.health == "starting",
            container.started_at or _EARLY,
        ),
    )


def best_line(
    service: str, logs: Sequence[LogExcerpt], patterns: PatternSet, started_at: datetime | None = None
) -> str | None:
    """Return the log line of a service that says most about its failure, None if none does.

    The lines since its last start decide, and earlier ones only if those report no failure.
    """
    lines = [line for log in logs if log.service == service for line in log.lines]
    since = last_run(lines, started_at)
    for part in (lines[since:], lines[:since]):
        place = _decisive(part, patterns)
        if place is not None:
            text = shorten(without_stamp(part[place]), 160)
            remark = without_stamp(part[place + 1]) if place + 1 < len(part) else ""
            return f"{text} {shorten(remark, 160)}" if is_remark(remark) else text
    return None


def _decisive(lines: Sequence[str], patterns: PatternSet) -> int | None:
    """Return the position of the line that tells the cause, None if no line reports a failure.

    It is the surest cause that a pattern finds, otherwise the last report of a failure. If that is a line of a logger,
    or a remark on one, errors written together with it come before it.
    """
    bare = [without_stamp(line) for line in lines]
    named, reader = _lines_named(bare, patterns), patterns.reader
    framed = without_frames("\n".join(bare)).split("\n")
    if named:
        place = next(iter(named))
        if named[place] >= WRAPPER:
            alike = {at for at, priority in named.items() if priority == named[place]}
            place = first_together(lines, place, alike.__contains__)
    else:
        backwards = (at for at in range(len(bare) - 1, -1, -1) if not _leads_on(framed[at]))
        place = next((at for at in backwards if reports_failure(bare[at], reader) or _is_raised(bare, framed, at)), -1)
    if place >= 0 and _leads_on(framed[place]):
        # What is raised there stands at the end of the traceback.
        ended = next((at for at in range(place, len(bare)) if not _leads_on(framed[at])), place)
        place = ended if _is_raised(bare, framed, ended) else place
    if place < 0:
        return None
    while place and bare[place][:1].isspace() and bare[place - 1].strip():
        # An indented line goes on with what the line above it says.
        place -= 1
    if reader.level_of(bare[place]) is None and not is_remark(bare[place]):
        return place
    return first_together(lines, place, lambda at: is_loud(bare[at], reader))


def _leads_on(framed: str) -> bool:
    """Whether a line, of a text without its frames, only leads through a traceback."""
    return not framed.strip() or _LEADS_ON.search(framed) is not None


def _is_raised(bare: Sequence[str], framed: Sequence[str], place: int) -> bool:
    """Whether a line ends a traceback, and so names what was raised, whatever its words."""
    follows = place > 0 and bool(bare[place - 1].strip()) and _leads_on(framed[place - 1])
    return follows and not bare[place][:1].isspace() and bool(bare[place])


def failure_lines(lines: Sequence[str], most: int, patterns: PatternSet) -> list[int]:
    """Return the positions of the log lines that show a failure best, in order, without repeated texts.

    Lines that name a cause come first, then lines that report a failure, the latest first, then the lines before
    them. If no line reports a failure, the last lines.
    """
    bare = [without_stamp(line) for line in lines]
    framed = without_frames("\n".join(bare)).split("\n")
    # Where a traceback leads through says less than what is written around it.
    places_only = {place for place, line in enumerate(framed) if _leads_on(line)}
    latest = {text: place for place, text in enumerate(bare) if text.strip()}
    backwards = sorted(latest.values(), reverse=True)
    decisive = _decisive(lines, patterns)
    named = [latest[bare[place]] for place in _lines_named(bare, patterns)][:most]
    named = named if decisive is None else [latest[bare[decisive]], *named]
    failures = (
        place for place in backwards if place not in places_only and reports_failure(bare[place], patterns.reader)
    )
    chosen = list(dict.fromkeys([*named, *failures]))
    chosen = [place for place in chosen if place not in places_only] or chosen
    if not chosen:
        return sorted(backwards[:most])
    before = [place - step for place in chosen for step in range(1, _LEADING_UP + 1) if place >= step]
    candidates = set(latest.values()) - places_only
    return sorted(list(dict.fromkeys([*chosen[:most], *(place for place in before if place in candidates)]))[:most])


def evidence_of(bundle: EvidenceBundle, *, since: datetime | None = None) -> Evidence | None:
    """Return the evidence for classification from a bundle, None if the service has no container.

    Only log lines since `since` count, and none if the container was killed: they did not cause that.
    """
    service_containers = [container for container in bundle.containers if container.service == bundle.service]
    if not service_containers:
        return None
    worst = _worst(service_containers)
    written = [line for log in bundle.logs if log.container == worst.name for line in log.lines]
    # The engine puts the time, in UTC, before each line.
    begin = f"{since.astimezone(UTC):%Y-%m-%dT%H:%M:%S}" if since else ""
    lines = [] if _was_killed(worst, bundle) else [line for line in written if line >= begin]
    return Evidence(
        exit_code=worst.exit_code,
        oom_killed=worst.memory.grade is MemoryGrade.PROVEN
        and (worst.state != "running" or _was_oom_killed(worst, bundle)),
        container_state=worst.state,
        restart_count=worst.restart_count,
        health=worst.health,
        logs=tuple(_without_frames(lines)[-60:]),
        probe_outputs=tuple(probe.output for probe in bundle.probes if _explains_failure(probe, worst, bundle))[-10:],
    )


def _without_frames(lines: Sequence[str]) -> list[str]:
    """Return the lines without those of tracebacks that say where, not why: a long one hides the cause before it."""
    bare = [without_stamp(line) for line in lines]
    frameless_lines = without_frames("\n".join(bare)).split("\n")
    return [
        line
        for line, text, frameless_line in zip(lines, bare, frameless_lines, strict=False)
        if frameless_line.strip() or not text.strip()
    ]


def _was_killed(container: ContainerEvidence, bundle: EvidenceBundle) -> bool:
    """Whether the last end of the container was a requested kill; one before its last start ended an earlier run."""
    kills = [event for event in _events_around_the_end(container, bundle) if event.action == "kill"]
    since = container.started_at or _EARLY
    return any(event.happened_at >= since and event.attributes.get("signal") == _SIGKILL for event in kills)


def _was_oom_killed(container: ContainerEvidence, bundle: EvidenceBundle) -> bool:
    """Whether a running container was killed for memory just now: the engine may restart it within a second."""
    around = _events_around_the_end(container, bundle)
    ends = [event.happened_at for event in around if event.action == "die"]
    just_now = bool(ends) and bundle.taken_at - ends[-1] <= _JUST_NOW
    return just_now and any(event.action == "oom" for event in around)


def _events_around_the_end(container: ContainerEvidence, bundle: EvidenceBundle) -> list[ContainerEvent]:
    """The container's events just before and after its last end; none where it did not end."""
    events = [event for event in bundle.events if event.container_id == container.container_id]
    ends = [event.happened_at for event in events if event.action == "die"]
    return [event for event in events if ends and abs(event.happened_at - ends[-1]) <= _JUST_NOW]


def _explains_failure(probe: ProbeOutput, container: ContainerEvidence, bundle: EvidenceBundle) -> bool:
    """Whether a failed check may name the cause: it did not pass later, and met a container that was not ending."""
    later = [output for output in bundle.probes if output.source == probe.source and output.last_at > probe.last_at]
    ended = container.finished_at if container.state in _ENDED else None
    too_late = ended is not None and probe.first_at >= ended - _ENDING
    return probe.service == bundle.service and not probe.ok and not too_late and not any(output.ok for output in later)


def _end_in_words(container_state: ContainerState, finding: MemoryFinding) -> str:
    if finding.grade is not MemoryGrade.NONE and container_state.exit_code == _KILLED:
        return f"exit code {_KILLED}, {finding.sentence}"
    return "; ".join(filter(None, (describe_exit(replace(container_state, oom_killed=False)), finding.sentence)))


def _failure(name: str, containers: Sequence[ContainerEvidence], probes: Sequence[ProbeOutput]) -> str:
    """Describe how a service failed, in words that follow its name; empty if nothing shows a failure."""
    # Of several, one that ended or fails says more than one that is paused.
    service_containers = sorted(
        (container for container in containers if container.service == name),
        key=lambda container: container.state == "paused",
    )
    for container in service_containers:
        if container.state == "paused":
            return f"is paused: docker unpause {container.name}"
        if container.state == "created" and container.ended:
            return f"could not be started: {shorten(container.ended)}"
        if container.state in ("exited", "dead") and container.exit_code != 0:
            return f"ended with {shorten(container.ended)}"
        if container.exit_code == 0 and container.restart_count and container.state in _ENDED:
            return f"was restarted {_times(container.restart_count)} and always ended with {LEFT_THE_FOREGROUND}"
        if container.state == "restarting" or (container.restart_count and container.state in _ENDED):
            return f"keeps crashing, restarted {_times(container.restart_count)}, last with {shorten(container.ended)}"
        check = f"fails its health check{_last_output_of(name, probes)}" if container.health == "unhealthy" else ""
        if container.memory.grade is MemoryGrade.PROVEN:
            return f"had a process killed: {container.memory.sentence}{f'; it {check}' if check else ''}"
        if check:
            return check
        if container.restart_count and _last_failed(name, probes):
            return f"was restarted {_times(container.restart_count)} and does not serve{_last_output_of(name, probes)}"
    if _last_failed(name, probes):
        checking = any(container.health == "starting" for container in service_containers)
        how = "has not passed its health check" if checking else "runs but does not serve"
        return f"{how}{_last_output_of(name, probes)}"
    return ""


def _state_in_words(name: str, containers: Sequence[ContainerEvidence], probes: Sequence[ProbeOutput]) -> str:
    service_containers = [container for container in containers if container.service == name]
    if not service_containers:
        return "has no container"
    ends = [container.ended for container in service_containers if container.state in _ENDED]
    if ends:
        return f"ended with {ends[0]}"
    words = ", ".join(
        dict.fromkeys(
            f"{container.state}{f' and {container.health}' if container.health else ''}"
            for container in service_containers
        )
    )
    return f"shows no failure of its own: it was {words}"


def _last_failed(name: str, probes: Sequence[ProbeOutput]) -> ProbeOutput | None:
    """The latest answer that still stands and is bad. A health check that passes does not answer for a probe."""
    answers = sorted((probe for probe in probes if probe.service == name), key=lambda probe: probe.last_at)
    standing = {probe.source: probe for probe in answers}.values()
    return max((probe for probe in standing if not probe.ok), key=lambda probe: probe.last_at, default=None)


def _last_output_of(name: str, probes: Sequence[ProbeOutput]) -> str:
    answer = _last_failed(name, probes)
    if answer is None or not answer.output.strip():
        return ""
    head, is_traceback, traceback = answer.output.partition(_TRACEBACK)
    if not is_traceback:
        return f": {shorten(answer.output, 160)}"
    # Of a traceback only what was raised at its end says why.
    raised = list(takewhile(lambda line: not line[:1].isspace(), reversed(traceback.rstrip().splitlines())))
    return f": {shorten(' '.join((head.strip(), *reversed(raised))).strip(), 160)}"


def _begin_of(name: str, containers: Sequence[ContainerEvidence], probes: Sequence[ProbeOutput]) -> datetime | None:
    """When a service began to fail: its end, or the first of the unbroken row of failed probes before now."""
    ends = [
        container.finished_at
        for container in containers
        if container.service == name
        and container.finished_at is not None
        and container.state in _ENDED
        and container.exit_code != 0
    ]
    if ends:
        return min(ends)
    began: dict[str, datetime] = {}
    for probe in sorted((probe for probe in probes if probe.service == name), key=lambda probe: probe.first_at):
        if probe.ok:
            began.pop(probe.source, None)
        else:
            began.setdefault(probe.source, probe.first_at)
    return min(began.values(), default=None)


def _lines_named(lines: Sequence[str], patterns: PatternSet) -> dict[int, int]:
    """The lines in which a pattern found a cause, with the pattern's priority, the surest first."""
    text = without_frames("\n".join(lines))
    priorities: dict[int, int] = {}
    for match in patterns.find(text):
        if match.pattern.category is not Category.BENIGN and match.pattern.priority > GENERIC:
            # A pattern of several lines ends with the one that tells the cause.
            priorities.setdefault(text.count("\n", 0, match.span[1] - 1), match.pattern.priority)
    outer = outer_exceptions(text.split("\n"))
    outer = outer if outer.stop in priorities else range(0)
    return {at: priority for at, priority in priorities.items() if at not in outer and not is_bare_name(lines[at])}


def _ended_well(name: str, containers: Sequence[ContainerEvidence]) -> bool:
    service_containers = [container for container in containers if container.service == name]
    return bool(service_containers) and all(
        container.state == "exited" and container.exit_code == 0 for container in service_containers
    )


def _words_of_dependencies(
    service: str,
    needs: Mapping[str, Sequence[str]],
    containers: Sequence[ContainerEvidence],
    logs: Sequence[LogExcerpt],
    patterns: PatternSet,
) -> str:
    """Return what the nearest dependency reports since a service waits silently; empty where none reports anything."""
    began = max(
        (container.started_at for container in containers if container.service == service and container.started_at),
        default=None,
    )
    for name in reachable(service, needs) if began else ():
        lines = [line for log in logs if log.service == name for line in log.lines]
        lines = lines[last_run(lines, began) :]
        named = next(iter(_lines_named(list(map(without_stamp, lines)), patterns)), None)
        if named is not None:
            return f'; {name}, which it needs, said "{shorten(without_stamp(lines[named]), 160)}"'
    return ""


def _last_line(service: str, containers: Sequence[ContainerEvidence], logs: Sequence[LogExcerpt]) -> str:
    """Return the last line of a service since it was started, in words that follow a sentence; empty without one."""
    service_containers = [container for container in containers if container.service == service]
    # Its end before is surer than its start: the engine notes a start after the program may have written already.
    ended = (
        _worst(service_containers).finished_at
        if service_containers and _worst(service_containers).state == "running"
        else None
    )
    lines = (line for log in logs_of_failed(service, containers, logs) for line in log.lines)
    texts = [without_stamp(line).strip() for line in lines if ended is None or (stamp_of(line) or ended) >= ended]
    last = next((line for line in reversed(texts) if line), "")
    return f'; its last line is "{shorten(last, 160)}"' if last else ""


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
