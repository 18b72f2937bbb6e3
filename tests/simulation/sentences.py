"""What must always hold, in sentences. A simulation checks them after each step, and ends where one does not hold."""

from __future__ import annotations

from enum import StrEnum


class Sentence(StrEnum):
    """A sentence that must hold, whatever happens, in whichever order."""

    STAYS_STOPPED = "What a person stopped stays stopped until a person starts it."
    STAYS_DOWN_BY_HAND = "A container that a person stopped by hand is not started by recovery."
    STAYS_PAUSED = "A container that a person paused is unpaused by nothing but a stop."
    MAINTENANCE = "While a service is under maintenance, recovery starts and restarts nothing of it."
    RECOVERY_PAUSED = "While a person pauses recovery, it starts and restarts nothing of what is paused."
    QUARANTINE = "An image with which an operation failed is taken by no later update until a person lifts that."
    OWN_HOST = "While an environment belongs to another host, nothing is done to it here."
    HELD_BACK = "The image of a program that crashes in an update is held back."
    FOREIGN = "Nothing is done to containers of other projects."
    BUDGET = "Recovery keeps its budgets: attempts at a service in 15 minutes and in a day."
    BACK_OFF = "After an attempt that failed recovery waits before the next one at the same error."
    ONE_AT_A_TIME = "One operation or recovery at a time changes an environment."
    ONE_END = "Each operation has one end on record, and it is the true one."
    LEASE = "While an operation changes an environment, the stores name it as the holder."
    PROVEN = "What a start, update or rollback calls proven serves when it ends, with the images of its release."
    UNDONE = "An update that failed and could be rolled back leaves images and names as before, and what served serves."
    NEWEST = "An update that succeeds runs the newest images that are not held back."
    GOES_BACK = "A rollback that succeeds runs the newest proven images that differ from those before it."
    ORDER = (
        "A service is started once what it needs has served, and stopped before that is; "
        "what is put back as it was before waits for nothing."
    )
    DEATH_RECORDED = "A death by itself that recovery sees is recorded once."
    NO_FAILURE = "Commands that people run in containers of their own are no failures of their service."
    RECOVERED = "What a recovery calls mended has served by its end."
    RECOVERY_ENDS = "Each attempt of a recovery has an end on record, also where its process was killed."
    ONE_MESSAGE = "People get one message about each failure, and one about its end."
    REPORTED = "People get a message about each ticket within ten minutes."
    ONE_TICKET = "A cause has one open ticket at most: none is opened about what only waits for what it needs."
    SERVES_OR_TICKET = "Once faults end, what should serve serves within half an hour, or a ticket is open."
    ANSWER_HELPS = "Once its cause is gone, the answer to try again makes a ticket's service serve, and closes it."
    START_HELPS = "Once faults end, a start makes all serve, with good images."
    MEASURED = "While an agent watches and the environment runs, it is measured once in its period."
    AGENT_LIVES = "The agent never ends by itself."
    SNAPSHOT_KEPT = (
        "A snapshot that did not fail is deleted by the declared retention alone, "
        "never the last one, and none that an open operation needs."
    )
    ONE_MOMENT = (
        "After a restore, a rollback with data, or their undoing, all parts are of one moment, after kills as well."
    )
    NOT_ON_HALF = "Nothing that writes is started on data of which a part is put back and another is not."
    ROWS_KEPT = "No row is lost unless a person confirmed that loss."
    READABLE = "Where code serves on data that it cannot read, the operation's record or a ticket says so."
    NO_DEFECT = "Nothing ends with an error that is none of ours."


class DoesNotHoldError(Exception):
    """A sentence does not hold."""

    def __init__(self, sentence: Sentence, what: str) -> None:
        super().__init__(f"{sentence} {what}")
        self.sentence, self.what = sentence, what
