"""The question that a suspended run asks, as Prefect's UI shows it."""

from __future__ import annotations

from flows.recovery.approve import question_about
from models.records import ShownLine, TicketDetails
from tests.integration.stores.values import ERROR, TICKET


def test_a_line_of_a_log_does_not_end_the_block_it_is_quoted_in() -> None:
    lines = (ShownLine(service="web", source="log", text="```"), ShownLine(service="web", source="log", text="# end"))

    question = question_about(TicketDetails(ticket=TICKET, error=ERROR, lines=lines))

    assert "````text\nweb: ```\nweb: # end\n````\n" in question
