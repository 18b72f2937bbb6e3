"""What must always hold, in sentences. A simulation checks them after each step, and ends where one does not hold."""

from __future__ import annotations

from enum import StrEnum


class Sentence(StrEnum):
    """A sentence that must hold, whatever happens, in whichever order."""

    STAYS_STOPPED = "What a person stopped stays stopped until a person starts it."
    STAYS_DOWN_BY_HAND = "A container that a person stopped by hand is not started by recovery."
    STAYS_PAUSED = "A container that a person paused is unpaused by nothing but a stop."
    RECOVERY_PAUSED = "While a person pauses recovery, it starts and restarts nothing of what is paused."
    QUARANTINE = "An image with which an operation failed is taken by no later update until a person lifts that."
    BUDGET = "Recovery keeps its budgets: attempts at a service in 15 minutes and in a day."
    ONE_AT_A_TIME = "One operation or recovery at a time changes an environment."
    ONE_END = "Each operation has one end on record, and it is the true one."
    PROVEN = "What a start, update or rollback calls proven serves when it ends, with the images of its release."
    UNDONE = "An update that failed and could be rolled back leaves what served before, and it serves."
    DEATH_RECORDED = "A death by itself that recovery sees is recorded once."
    SERVES_OR_TICKET = "Once faults end, what should serve serves within half an hour, or a ticket is open."
    START_HELPS = "Once faults end, a start makes all serve, with good images."
    MEASURED = "While an agent watches and the environment runs, it is measured once in its period."
    AGENT_LIVES = "The agent never ends by itself."
    NO_DEFECT = "Nothing ends with an error that is none of ours."


class DoesNotHoldError(Exception):
    """A sentence does not hold."""

    def __init__(self, sentence: Sentence, what: str) -> None:
        super().__init__(f"{sentence} {what}")
        self.sentence, self.what = sentence, what
