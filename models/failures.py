"""Errors that this program raises: each says what failed, on what, and what to do."""

from __future__ import annotations


class RoasError(Exception):
    """A failure a person can act on.

    `what` names the failure and its object in one sentence; `advice` says what to try next.
    The text of the error is both, so a log line needs nothing else.
    """

    def __init__(self, what: str, *, advice: str = "") -> None:
        """Keep the two sentences apart, so that a program can show either."""
        # Another program's message often ends without a full stop.
        has_end = not advice or what.rstrip("\"'`)]")[-1:] in (*".,;:!?…", "")
        stop = "" if has_end else "." if advice[:1].isupper() else ";"
        super().__init__(f"{what}{stop} {advice}".strip())
        self.what = what
        self.advice = advice


class BadInputError(RoasError):
    """A person gave something we cannot use: a file, a name, a value."""


class EnvironmentFileError(BadInputError):
    """An environment's YAML is missing, does not parse or does not validate."""


class PausedError(BadInputError):
    """A person paused a container that an operation would need; the operation touched nothing."""


class WrongHostError(BadInputError):
    """The environment belongs to another host; nothing was done."""


class EngineError(RoasError):
    """The Docker engine refused or failed a request."""


class EngineUnreachableError(EngineError):
    """The Docker engine did not answer at all."""

    def __init__(self, address: str, cause: str = "") -> None:
        """Name the address that was tried and, where known, the system's own words."""
        super().__init__(
            f"Docker engine at {address} did not answer{f' ({cause})' if cause else ''};",
            advice="is it running, and is its socket readable by this user?",
        )
        self.address = address


class EnginePermissionError(EngineError):
    """The engine is there, but this user may not talk to it."""


class RequestRefusedError(RoasError):
    """The engine's broker does not forward a request."""


class ContainerGoneError(EngineError):
    """A container that was there a moment ago is not there any more."""


class ComposeError(RoasError):
    """Compose could not read, merge or create the application; `output` is all that it printed, without secrets."""

    def __init__(self, what: str, *, advice: str = "", output: str = "") -> None:
        """Keep the output apart: it may have many lines."""
        super().__init__(what, advice=advice)
        self.output = output


class ImageFetchError(ComposeError):
    """The image of a service could not be pulled or built: nothing was touched."""

    def __init__(self, what: str, *, service: str, kind: str, advice: str = "", output: str = "") -> None:
        """Name the service, and whether its image was pulled ("pull") or built ("build")."""
        super().__init__(what, advice=advice, output=output)
        self.service = service
        self.kind = kind


class ValidationFailedError(RoasError):
    """The environment has critical findings: nothing was touched."""

    def __init__(self, what: str, *, advice: str = "", service: str | None = None) -> None:
        """Carry the service that it is about, for the error record, where it is one."""
        super().__init__(what, advice=advice)
        self.service = service


class NeedDownError(RoasError):
    """Another environment that this one needs is down: nothing was touched."""


class StartFailedError(RoasError):
    """A service did not start; the message names it and the condition that was awaited."""

    def __init__(self, what: str, *, advice: str = "", service: str | None = None) -> None:
        """Carry the first service that failed, for the error record."""
        super().__init__(what, advice=advice)
        self.service = service


class HookError(RoasError):
    """A hook of an update could not be run, or it is unknown whether it finished: no image is to blame."""


class PlanChangedError(RoasError):
    """A start would not do what the plan it was given says: nothing was touched."""


class GateRefusedError(RoasError):
    """The gate of an environment refused the images of an update: nothing was touched."""


class ScanFailedError(RoasError):
    """An image could not be scanned for known vulnerabilities."""


class ReleaseError(RoasError):
    """A release cannot be applied as it was kept."""


class SourceError(RoasError):
    """An environment's source cannot be fetched, or not be taken as it is: nothing was touched."""


class SourceUnreachableError(SourceError):
    """The server of a source did not answer; it may in a moment."""


class ProbeOutOfReachError(RoasError):
    """A probe cannot be asked from this machine; it says nothing about the service."""


class SnapshotError(RoasError):
    """Data could not be saved, restored or rehearsed."""


class StillPausedError(SnapshotError):
    """Containers that a snapshot paused do not go on, or that is not known."""


class DamagedRepositoryError(SnapshotError):
    """Data in a repository of snapshots is damaged or missing: what needs it cannot be read, other snapshots may be."""


class HalfRestoredError(RoasError):
    """A restore was cut off, and nothing may start until its data is whole; nothing was touched."""


class HalfRotatedError(HalfRestoredError):
    """A rotation of a password was cut off, and nothing may start until it is over; nothing was touched."""


class RotationError(RoasError):
    """A password could not be rotated, or its rotation not be undone."""


class ScriptFailedError(RoasError):
    """A recovery script ended badly, or not in time."""


class ActionRefusedError(RoasError):
    """A recovery action may not be taken as things are; nothing was touched."""


class GivenUpError(RoasError):
    """A person decided that recovery ends here."""

    def __init__(self, ticket_id: str, by: str, note: str) -> None:
        """Say who gave up and why."""
        super().__init__(
            f"{by} gave up on ticket {ticket_id}: {note};",
            advice="Retry repeats the step that failed, and nothing before it.",
        )


class EnvironmentBusyError(RoasError):
    """Another operation holds this environment."""


class LeaseLostError(RoasError):
    """Another operation took this environment, because this one was taken for dead; this one ends."""


class OperationCancelledError(RoasError):
    """An operation was asked to end before it had."""


class StoreError(RoasError):
    """A store could not be read or written."""


class StoreBusyError(StoreError):
    """The store stayed locked until the deadline."""


class StoreFullError(StoreError):
    """The disk or quota under a store is used up."""


class StoreCorruptError(StoreError):
    """A store's file is damaged; it was set aside, not deleted."""


class StoreConstraintError(StoreError):
    """A row broke a rule of its table."""


class StoreUnreachableError(StoreError):
    """The database server under a store does not answer, or does not let this user in."""


class StoreTooNewError(StoreError):
    """A store was written by a later version of this program."""


class NotFoundError(RoasError):
    """A named record (deployment, error, ticket, pattern) does not exist."""
