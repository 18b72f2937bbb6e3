"""Classify errors by their text and their evidence.

Confidence is a number from 0 to 1:
- 0.9 and more: the text names the cause;
- 0.7 to 0.95: the evidence beside the text decided;
- 0.75: the text shows a symptom that many causes share;
- 0.55: only a wrapper or an exit without words;
- 0.45: only the level of the line;
- 0.4: single words hint at a cause;
- 0.2: nothing is known.
A rival cause of nearly the same weight subtracts 0.1.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial

import re2

from core.common.exit_codes import LEFT_THE_FOREGROUND
from core.common.safe_text import shorten
from core.common.stamps import without_stamp
from core.errors.decisive import first_together, is_bare_name, is_loud, is_note, outer_exceptions
from core.errors.match import CAUSE, CERTAIN, GENERIC, INNERMOST, SYMPTOM, TRAP, WRAPPER, PatternMatch, PatternSet
from core.errors.reading import ExcerptReader, LogLevel, blank_middle, last_cause, without_frames
from core.errors.templates import template_of
from models.errors import Category, Evidence, Severity, Strategy, Verdict

_SURE_FROM = 0.7
_RIVAL_WITHIN = 10
_MANY_RESTARTS = 3
_FRESH_SECONDS = 900.0
_LINES_OF_LOG = 200
_LINES_OF_TEXT = 1_000

_FAILURE_WORD = re2.compile(
    r"(?i)error|fail|fatal|panic|exception|crash|abort|den(?:y|ied)|refus|invalid|can(?:no|')t|could ?n"
    r"|not (?:found|set|exist|allow|support|permit|valid|running|respond|writ|readable|available|compatible|enough"
    r"|installed|loaded|match|reachable|recogni|trusted|accessible)|incompatib|mismatch|missing|inconsistent"
    r"|not defined|must (?:be set|set|specify|define|provide)|(?:is|are) required"
    r"|requires? (?:an? )?(?:upgrade|migration)|please (?:define|specify)|longer than|wrong|unexpected|kill|unable"
    r"|timed?[ -]?out|unhealthy|lost|\b(?:is|are|went|host|instance|node) down\b|broken|reject|traceback"
    r"|critical|firing|\bdead|corrupt|illegal"
    r"|bad |no such|unknown|unreachable|closed|exceed|overflow|undefined|unsupported|forbidden"
    r"|too (?:many|large|long|high|low|slow)|degraded|filling up|disappear|not healthy|file exists|stalling|out of sync"
    r"|\bno \S+ (?:found|provided|set|given)|unauthori[sz]ed|expired|conflict"
    r"|disconnect|\bdies\b|terminated|didn't|doesn't|stuck"
)

# Names that contain the word but report no failure.
_ONLY_A_NAME = re2.compile(
    r"(?i)\berror[ _-]?(?:budget|handl\w+|pages?|log(?:s|ger|ging)?|report(?:s|er|ing)|tracking|rate|recovery)\b"
    r"|[\w/-]*(?:error|exception|fail|crash)\w*\.(?:html?|logs?|py|js|ts|txt|json|sh|ya?ml)\b|/errors?\b"
    r"|error ?document|\bon[ _-]?(?:error|fail(?:ure)?)\b"
    r"|\bexception (?:middleware|handler|filter)s?\b|\berrors=[\w-]+"
    r"|\"(?:get|post|put|delete|head|patch|options) [^\"]*\""
    r"|\b\w*(?:timeout|retries|attempts)=[\w.]+|\b(?:max|allow|allowed|ignore|log|num)[_-]\w*(?:fail|error)\w*"
    r"|\b(?:class|job|task|queue|name|event|handler|path|file|branch|uri|topic)=\S+"
    r"|\b(?:0|no|zero) (?:failed|errors?)\b"
    r"|--?\w*fail\w*=|\bfail(?:over|-?fast)\b"
)

_DENIED = re2.compile(
    r"(?i)permission denied|operation not permitted|\bEACCES\b|access rights to the directory"
    r"|\b(?:errno|error|errcode)(?: number)?:? ?13\b"
)

# What says little of its own: facts from the engine weigh more than these words.
_ENDS = frozenset({Category.CONTAINER_EXITED, Category.HEALTHCHECK_FAILED})
_WEAK_CATEGORIES = _ENDS | {Category.UNKNOWN, Category.PERFORMANCE_THRESHOLD, Category.TIMEOUT}
OF_A_NEED = (_WEAK_CATEGORIES - {Category.PERFORMANCE_THRESHOLD}) | {
    *(Category.DEPENDENCY_REFUSED, Category.DNS_FAILURE, Category.DOCKER_NETWORK),
    *(Category.APPLICATION_ERROR, Category.EXTERNAL_API, Category.REDIS_STATE),
}
"""What a service may show while another environment that it needs is down."""
_WHY_NOT_SAVED = frozenset({Category.DISK_FULL, Category.VOLUME_MOUNT, Category.HOST_STORAGE_FAILURE})
# What a program lacks at its start it calls an error; a symptom of it in a warning was dealt with.
_STOPS_A_START = frozenset({
    *(Category.MISSING_ENV_SECRET, Category.SERVICE_CONFIG_INVALID, Category.RUNTIME_DEPENDENCY_MISSING),
    *(Category.VOLUME_MOUNT, Category.SCHEMA_NOT_MIGRATED, Category.PYTHON_IMPORT_CONFIG),
})  # fmt: skip
# Failures that a supervisor logs at level "info".
_REPORTED_BY_WATCHER = _ENDS | {Category.OOM_KILLED}

_CHECK_SAYS = re2.compile(r"\bits (?:last )?(?:own )?(?:health check|probe)\b[^\n]*: ?")
_LOOPBACK = ("localhost", "ip6-localhost", "server")
_OTHER_HOST = re.compile(
    r"(?:(?<![\w.-])(?=[a-zA-Z][\w.-]*:\d{2,5}(?!\d))|\bconnect(?:ion)? to (?:server at |host )?\"?)([a-zA-Z][\w-]*)"
)
"""A host by its name: an address may be the service's own."""

_CONTINUES = re2.compile(r"^(?:[\w.-]+ +\| ?)?\s{2,}\S")

_HINT = 0.4
_CONFIDENCE = (
    (TRAP, 0.97), (INNERMOST, 0.95), (CAUSE, 0.9), (SYMPTOM, 0.75), (WRAPPER, 0.55), (GENERIC + 1, _HINT), (0, 0.55),
)  # fmt: skip
_SEVERAL = "several services fail at once"
"""Template of their errors: the failing services differ from one inspection to the next, the cause is one."""


def classify(
    text: str, patterns: PatternSet, *, evidence: Evidence | None = None, own_names: Collection[str] = ()
) -> Verdict:
    """Classify an error: category, severity, strategy, and the words or facts that decided.

    `own_names` are the host names of the service itself. An automatic strategy is a proposal: its own precondition is
    checked later. Time is linear in the length of the text.
    """
    checks = () if evidence is None else evidence.probe_outputs
    verdict = _classify_words(text, patterns)
    verdict = _verdict_of_own_check(_not_damaged(verdict, text), text, checks, own_names)
    if evidence is None:
        return verdict
    verdict = _verdict_of_own_refusal(_weigh(verdict, evidence, patterns, own_names), evidence, own_names)
    return _note_deployment(verdict, evidence)


def reports_failure(line: str, reader: ExcerptReader) -> bool:
    """Whether a line reports a failure: by its level, or by its words where the logger wrote none."""
    read = reader.read_line(line)
    if read.level is not None:
        return read.level >= LogLevel.ERROR
    message = line[read.message :]
    return _FAILURE_WORD.search(message) is not None and _FAILURE_WORD.search(_ONLY_A_NAME.sub("", message)) is not None


def as_failure(verdict: Verdict, text: str, evidence: Evidence | None = None) -> Verdict:
    """Return the verdict on a failure: its cause may be unknown, but it is not benign.

    A service that exited with code 0 has failed if it should stay up.
    """
    if verdict.category is not Category.BENIGN:
        return verdict
    verdict = replace(verdict, severity=Severity.HIGH)
    if evidence is not None and evidence.container_state == "restarting" and evidence.exit_code == 0:
        reason = f"It is to stay up, and whenever it is restarted it ends with {LEFT_THE_FOREGROUND}."
        return replace(verdict, category=Category.CONTAINER_EXITED, strategy=Strategy.INVESTIGATE, reason=reason)
    if evidence is not None and evidence.container_state == "exited" and evidence.exit_code == 0:
        reason = f"It is to stay up, and it ended with {LEFT_THE_FOREGROUND}."
        return replace(verdict, category=Category.CONTAINER_EXITED, strategy=Strategy.RESTART_SERVICE, reason=reason)
    reason = f'"{shorten(text)}" is a failure and names no known cause'
    return replace(verdict, category=Category.UNKNOWN, strategy=Strategy.INVESTIGATE, reason=reason)


def as_one_of_several(verdict: Verdict, failing: int) -> Verdict:
    """Return the verdict on one of several services that fail at once: their common cause is not in its text."""
    reason = f"{failing} services fail at once, which points to the host or the engine."
    return _verdict(_SEVERAL, Category.UNKNOWN, Severity.CRITICAL, Strategy.INVESTIGATE, verdict.confidence, reason)


def _classify_words(text: str, patterns: PatternSet) -> Verdict:
    reader, read = patterns.reader, without_frames(blank_middle(text))
    matches = _not_only_informed(read, _keep_last_cause(read, patterns.find(read)), reader)
    errors = [match for match in matches if _is_error(match)]
    named = [match for match in errors if not _is_hint(match)] or errors
    causes = [(match.pattern.category, match.span[0]) for match in named]
    if not causes and "\n" in read:
        causes = [(Category.UNKNOWN, start) for start, _ in _reporting_lines(read, reader)]
    healed = reader.position_of_healing(read, causes)
    if healed:
        matches, read = tuple(match for match in matches if match.span[0] >= healed), " " * healed + read[healed:]
    if matches and (matches[0].pattern.category is not Category.BENIGN or _is_benign_throughout(read, matches, reader)):
        return _classify_pattern(text, read, matches)
    # The level comes last: programs log harmless things as warnings and true failures as information.
    if next(_reporting_lines(read, reader), None) is None:
        reason = "No known cause matches, and the lines report no failure of their own."
        return _verdict(template_of(text), Category.BENIGN, Severity.LOW, Strategy.NONE, 0.45, reason)
    reason = "Unknown error: no pattern matches its text."
    return _verdict(template_of(text), Category.UNKNOWN, Severity.MEDIUM, Strategy.INVESTIGATE, 0.2, reason)


def _verdict(
    template: str | None, category: Category, severity: Severity, strategy: Strategy, confidence: float, reason: str
) -> Verdict:
    return Verdict(
        category=category, severity=severity, strategy=strategy, confidence=confidence, reason=reason, template=template
    )


def _keep_last_cause(text: str, matches: tuple[PatternMatch, ...]) -> tuple[PatternMatch, ...]:
    """Remove what the outer exceptions of a chain say where its last `Caused by` names a cause."""
    first, last = last_cause(text)
    outer = text.rfind("\n", 0, len(text[:first].rstrip())) + 1 if first > 0 else max(first, 0)
    if not any(
        _is_error(match) and match.span[0] >= last >= 0 and match.pattern.priority > WRAPPER for match in matches
    ):
        return matches
    return tuple(match for match in matches if not _is_error(match) or not outer <= match.span[0] < last)


def _is_error(match: PatternMatch) -> bool:
    return match.pattern.category is not Category.BENIGN


def _not_only_informed(text: str, matches: tuple[PatternMatch, ...], reader: ExcerptReader) -> tuple[PatternMatch, ...]:
    """Remove the errors on lines of level "info": the program has dealt with them itself.

    Exits and failed health checks stay: a supervisor logs them at level "info". A hint needs a line that reports a
    failure: its words alone say too little.
    """
    reporting = list(_reporting_lines(text, reader)) if any(map(_is_hint, matches)) else []
    return tuple(
        match
        for match in matches
        if _stands(match)
        or (
            any(start <= match.span[0] < end for start, end in reporting)
            if _is_hint(match)
            else not _informs(text, match, reader)
        )
    )


def _is_hint(match: PatternMatch) -> bool:
    return GENERIC < match.pattern.priority < WRAPPER


def _stands(match: PatternMatch) -> bool:
    weak = SYMPTOM + 7 if match.pattern.category in _REPORTED_BY_WATCHER else CERTAIN
    return match.pattern.category is Category.BENIGN or match.pattern.priority >= weak


def _informs(text: str, match: PatternMatch, reader: ExcerptReader) -> bool:
    """Whether the line of a match only informs; indented lines go with a line of level "debug" above them."""
    start = text.rfind("\n", 0, match.span[0]) + 1
    end = text.find("\n", match.span[0])
    line = text[start : len(text) if end < 0 else end]
    level = reader.level_of(line)
    if level is None and _CONTINUES.search(line) is not None:
        above = (one for one in reversed(text[:start].splitlines()[-_LINES_OF_LOG:]) if not _CONTINUES.search(one))
        return reader.level_of(next(above, "")) is LogLevel.DEBUG
    mild = match.pattern.category in _STOPS_A_START and match.pattern.priority < CAUSE
    return level is not None and level <= (LogLevel.WARNING if mild else LogLevel.INFO)


def _is_benign_throughout(text: str, matches: tuple[PatternMatch, ...], reader: ExcerptReader) -> bool:
    """Whether a benign pattern knows every line that reports a failure."""
    return all(
        any(match.span[0] < end and start < match.span[1] for match in matches)
        for start, end in _reporting_lines(text, reader)
    )


def _reporting_lines(text: str, reader: ExcerptReader) -> Iterator[tuple[int, int]]:
    """The places of the lines that report a failure; an indented line without a level goes with the line above it."""
    start, quiet_above = 0, False
    for line in text.splitlines(keepends=True)[:_LINES_OF_TEXT]:
        level = reader.level_of(line)
        if level is not None:
            quiet_above = level < LogLevel.ERROR
        elif _CONTINUES.search(line) is None:
            quiet_above = False
        if not quiet_above and reports_failure(line, reader):
            yield start, start + len(line)
        start += len(line)


def _classify_pattern(text: str, read: str, matches: tuple[PatternMatch, ...]) -> Verdict:
    pattern, (start, end) = matches[0].pattern, matches[0].span
    alike = _lines_alike(read, start, end)
    also, confidence = "", next(share for least, share in _CONFIDENCE if pattern.priority >= least)
    for other in (match.pattern for match in matches[1:]):
        if other.category is not pattern.category and pattern.priority - other.priority < _RIVAL_WITHIN:
            also, confidence = f"; {other.category.value} ({other.name}) was nearly as likely", confidence - 0.1
            break
    reason = f'"{shorten(text[start:end], 120)}" means {pattern.category.value} (pattern {pattern.name}){also}.'
    return Verdict(
        category=pattern.category,
        severity=pattern.severity,
        strategy=pattern.strategy,
        confidence=round(confidence, 2),
        reason=f"{reason} {alike} lines say so." if alike > 1 else reason,
        pattern_name=pattern.name,
        span=(start, end),
        template=template_of(text),
    )


def _lines_alike(text: str, start: int, end: int) -> int:
    """How many lines repeat the one with the words from `start` to `end`, but for times, numbers and names."""
    words = text[start:end]
    if "\n" not in text or "\n" in words:
        return 1
    line_end = text.find("\n", end)
    line = template_of(text[text.rfind("\n", 0, start) + 1 : len(text) if line_end < 0 else line_end])
    return sum(words in candidate and template_of(candidate) == line for candidate in text.split("\n"))


def _verdict_of_own_check(verdict: Verdict, text: str, checks: Sequence[str], own_names: Collection[str]) -> Verdict:
    """Return the verdict on a connection that a check of the service itself found refused: no dependency refused it.

    `checks` are what its checks said. A check may report another host's refusal, which it then names.
    """
    span, refused = verdict.span, (Category.DEPENDENCY_REFUSED, Category.TIMEOUT)
    if verdict.category not in refused or verdict.pattern_name is None or span is None:
        return verdict
    words, before = text[slice(*span)], text[: span[0]].rpartition("\n")[2]
    if not any(words in output for output in checks) and _CHECK_SAYS.search(before) is None:
        return verdict
    line = text[text.rfind("\n", 0, span[0]) + 1 :].partition("\n")[0]
    if any(host not in _LOOPBACK and host not in own_names for host in _OTHER_HOST.findall(line)):
        return verdict
    reason = f'Its own check says "{shorten(words, 120)}", so it does not serve yet or any more.'
    return _verdict(
        verdict.template, Category.HEALTHCHECK_FAILED, Severity.MEDIUM, Strategy.RESTART_SERVICE, 0.7, reason
    )


def as_need_down(verdict: Verdict, needs: Sequence[str]) -> Verdict:
    """Return the verdict on a service that failed while another environment which it needs was down: a restart."""
    reason = f"What it needs was down when it failed: {', '.join(needs)}."
    category = Category.DEPENDENCY_REFUSED
    return _verdict(verdict.template, category, Severity.HIGH, Strategy.RESTART_SERVICE, 0.8, reason)


def _weigh(verdict: Verdict, evidence: Evidence, patterns: PatternSet, own_names: Collection[str]) -> Verdict:
    weak = (
        verdict.category in _WEAK_CATEGORIES
        or verdict.confidence <= _HINT
        or (verdict.category is Category.BENIGN and verdict.confidence < _SURE_FROM)
    )
    if evidence.oom_killed and (weak or verdict.category is Category.DEPENDENCY_REFUSED):
        reason = "The engine reports that the kernel killed the container for memory."
        return _verdict(verdict.template, Category.OOM_KILLED, Severity.HIGH, Strategy.RESTART_SERVICE, 0.95, reason)
    if weak:
        named = _named_elsewhere(evidence.probe_outputs, evidence.logs[-_LINES_OF_LOG:], patterns, own_names)
        if named is not None:
            return replace(named, template=verdict.template)
        verdict = _classify_state(verdict, evidence)
    elif verdict.category is Category.DEPENDENCY_REFUSED and not evidence.dependencies_down:
        # Its own probe may be what is refused; its log then says why it does not serve.
        named = _named_elsewhere((), evidence.logs[-_LINES_OF_LOG:], patterns)
        if named is not None and named.category is not verdict.category and not named.strategy.automatic:
            return replace(named, template=verdict.template)
    elif verdict.category is Category.REDIS_STATE and verdict.strategy is Strategy.INVESTIGATE:
        # Redis answers that it could not save, and writes into its log why not.
        verdicts = (_classify_words(without_stamp(line), patterns) for line in reversed(evidence.logs[-_LINES_OF_LOG:]))
        named = next(
            (candidate for candidate in verdicts if candidate.category in _WHY_NOT_SAVED and _is_sure(candidate)), None
        )
        if named is not None:
            return replace(named, template=verdict.template, span=None, reason=f"Its log says: {named.reason}")
    if verdict.category is Category.HEALTHCHECK_FAILED and evidence.health == "starting":
        reason = f"{verdict.reason} Its start period has not ended yet."
        return replace(verdict, severity=Severity.LOW, strategy=Strategy.WAIT_AND_RETRY, reason=reason)
    loops = evidence.container_state == "restarting" or evidence.restart_count >= _MANY_RESTARTS
    if loops and verdict.category is Category.CONTAINER_EXITED and verdict.strategy.automatic:
        # The engine is already restarting it: one more restart would add nothing.
        reason = f"{verdict.reason} It was restarted {evidence.restart_count} times without help."
        return replace(verdict, strategy=Strategy.INVESTIGATE, reason=reason)
    return verdict


def _named_elsewhere(
    probe_outputs: Sequence[str], logs: Sequence[str], patterns: PatternSet, own_names: Collection[str] = ()
) -> Verdict | None:
    """The surest cause named in the log, else in the probe outputs; None if none is sure.

    Of equals the first of those that were written together last. A logger's notice names no cause beside errors.
    """
    reader = patterns.reader
    lines = without_frames("\n".join(map(without_stamp, logs))).split("\n")
    verdicts = {
        place: verdict for place, line in enumerate(lines) if _is_sure(verdict := _classify_words(line, patterns))
    }
    outer = outer_exceptions(lines)
    outer = outer if outer.stop in verdicts else range(0)
    verdicts = {at: verdict for at, verdict in verdicts.items() if at not in outer and not is_bare_name(lines[at])}
    if any(is_loud(line, reader) for line in lines):
        verdicts = {place: verdict for place, verdict in verdicts.items() if not is_note(lines[place], reader)}
    surest = max((verdict.confidence for verdict in verdicts.values()), default=0.0)
    judged = (
        _verdict_of_own_check(_classify_words(output, patterns), output, (output,), own_names)
        for output in probe_outputs
    )
    answers = [verdict for verdict in judged if _is_sure(verdict)]
    best = max(reversed(answers), key=lambda verdict: verdict.confidence, default=None)
    if verdicts and (best is None or best.confidence <= surest):
        alike = {place for place, verdict in verdicts.items() if verdict.confidence == surest}
        place = first_together(logs, max(alike), alike.__contains__)
        begin = first_together(logs, place, lambda at: is_loud(lines[at], reader))
        best = _not_damaged(verdicts[place], "\n".join(lines[begin : place + 1]))
    if best is None:
        return None
    confidence = round(max(_SURE_FROM, best.confidence - 0.1), 2)
    return replace(best, confidence=confidence, span=None, reason=f"Its log says: {best.reason}")


def _not_damaged(verdict: Verdict, text: str) -> Verdict:
    """Return the verdict on data that could not be read: where access was denied, it is not damaged."""
    denied = _DENIED.search(text) if verdict.strategy is Strategy.RESTORE_DATABASE else None
    if denied is None:
        return verdict
    reason = f'{verdict.reason} "{denied[0]}" says that its owner or mode is wrong, which is no damage.'
    return replace(
        verdict,
        category=Category.VOLUME_MOUNT,
        severity=Severity.HIGH,
        strategy=Strategy.FIX_PERMISSIONS,
        reason=reason,
    )


def _is_sure(verdict: Verdict) -> bool:
    named = verdict.category not in {*_WEAK_CATEGORIES, Category.BENIGN}
    return named and verdict.span is not None and verdict.confidence > _HINT


def _classify_state(verdict: Verdict, evidence: Evidence) -> Verdict:
    make_verdict = partial(_verdict, verdict.template)
    code, running = evidence.exit_code, evidence.container_state == "running"
    exited = verdict.category is Category.CONTAINER_EXITED
    unnamed = verdict.category in (Category.UNKNOWN, Category.BENIGN) or verdict.confidence <= _HINT
    if evidence.dependencies_down and verdict.category is not Category.PERFORMANCE_THRESHOLD:
        why = f"What it needs is down: {', '.join(evidence.dependencies_down)}."
        return make_verdict(
            Category.DEPENDENCY_REFUSED, Severity.HIGH, Strategy.RESTART_DEPENDENCY_THEN_SERVICE, 0.8, why
        )
    if exited and running and not evidence.restart_count and evidence.probe_outputs:
        why = "It runs and its probe fails; what ended is the probe's command."
        return make_verdict(Category.HEALTHCHECK_FAILED, Severity.MEDIUM, Strategy.RESTART_SERVICE, 0.7, why)
    if (unnamed or exited) and code in (126, 127) and not running:
        why = f"Exit code {code} means that its command could not be run."
        return make_verdict(Category.EXEC_FORMAT_ENTRYPOINT, Severity.HIGH, Strategy.FIX_CONFIG, 0.8, why)
    if unnamed and evidence.container_state == "restarting":
        why = "The container ends again and again, and the engine is already restarting it."
        return make_verdict(Category.CONTAINER_EXITED, Severity.HIGH, Strategy.INVESTIGATE, 0.75, why)
    if unnamed and code not in (None, 0) and not running:
        why = f"It ended with exit code {code}, and no log line names the cause."
        return make_verdict(Category.CONTAINER_EXITED, Severity.HIGH, Strategy.RESTART_SERVICE, 0.7, why)
    if unnamed and evidence.health == "unhealthy":
        why = "Its health check fails, and no log line names the cause."
        return make_verdict(Category.HEALTHCHECK_FAILED, Severity.MEDIUM, Strategy.RESTART_SERVICE, 0.7, why)
    return verdict


def _verdict_of_own_refusal(verdict: Verdict, evidence: Evidence, own_names: Collection[str]) -> Verdict:
    """Return the verdict on a refused connection: one to the service's own name is refused by no dependency.

    Only its log counts: a probe that is refused at that name shows a service that does not serve.
    """
    refused = verdict.category is Category.DEPENDENCY_REFUSED and verdict.strategy.automatic
    if not refused or evidence.dependencies_down or not own_names:
        return verdict
    own_address = re.compile(rf"(?<![\w.-])(?:{'|'.join(map(re.escape, own_names))}):\d+")
    first_match = next(
        (match for line in evidence.logs if "refused" in line.lower() and (match := own_address.search(line))), None
    )
    if first_match is None:
        return verdict
    reason = f"{verdict.reason} {first_match[0]} is the service's own address, and nothing listens there."
    return replace(verdict, strategy=Strategy.FIX_CONFIG, reason=reason)


def _note_deployment(verdict: Verdict, evidence: Evidence) -> Verdict:
    ago = evidence.deployed_seconds_ago
    if ago is None or ago > _FRESH_SECONDS or verdict.category is Category.BENIGN:
        return verdict
    noted = replace(verdict, reason=f"{verdict.reason} A deployment ended {ago:.0f} s before it.")
    if verdict.category is Category.CONTAINER_EXITED and verdict.strategy.automatic and evidence.restart_count:
        # What came with the deployment ends it: the engine has tried again already.
        return replace(noted, strategy=Strategy.INVESTIGATE)
    return noted
