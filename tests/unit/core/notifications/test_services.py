"""What each service is sent keeps its limits, whatever the text; no user is mentioned, and no secret is cut in half."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.errors.secret_shapes import REDACTED as REDACTED_THERE
from core.notifications.cut import REDACTED, fit_text, length
from core.notifications.discord import CODE, TEXT
from core.notifications.services import render
from models.notifications import Fact, Link, Message, Tone
from tests.support.chat_rules import discord_objects, slack_objects, teams_objects

HOSTILE = "@everyone <!channel> <@123> [free](https://evil.example) **x** `y` ```z``` & <https://evil.example|free>"
MESSAGE = Message(
    tone=Tone.FAILURE,
    title="web of shop needs help",
    summary="It exited.",
    lines=("ERROR: no",),
    facts=(Fact(name="Affected", value="web"), Fact(name="Next", value="roas tickets t", command=True)),
    links=(Link(label="Run in Prefect", address="https://ops.example/runs/flow-run/1"),),
)
CHECKS = {"discord-webhook": discord_objects, "slack-webhook": slack_objects, "ms-teams-webhook": teams_objects}

texts = st.text(max_size=40) | st.sampled_from([HOSTILE, "界" * 700, "😀" * 700, "`" * 3000, "<" * 5000, "*_" * 2000])


@given(
    st.builds(
        Message,
        tone=st.sampled_from(Tone),
        title=texts,
        summary=texts,
        items=st.lists(texts, max_size=12).map(tuple),
        lines=st.lists(texts, max_size=3).map(tuple),
        facts=st.lists(
            st.builds(Fact, name=st.sampled_from(["Affected", "Tried"]), value=texts, command=st.booleans()),
            max_size=12,
        ).map(tuple),
        links=st.just(MESSAGE.links),
    )
)
@settings(max_examples=40, deadline=None)
@example(replace(MESSAGE, title="<" * 5000, summary="😀" * 5000, items=("界" * 900,) * 12, lines=("`" * 900,) * 3))
def test_every_service_accepts_any_text(message: Message) -> None:
    for kind, objections in CHECKS.items():
        assert objections(render(kind, message)) == [], kind


def test_nobody_is_mentioned_and_no_link_is_made_by_the_text_of_others() -> None:
    message = replace(MESSAGE, title=HOSTILE, summary=HOSTILE, items=(HOSTILE,), links=())
    discord = render("discord-webhook", message)
    assert discord["allowed_mentions"] == {"parse": []}
    shown = discord["embeds"][0]
    assert "](https:" not in shown["description"].replace("\\", "\\\\")
    assert "https://" not in shown["description"]
    slack = render("slack-webhook", message)
    assert "<!" not in slack["text"]
    assert "mrkdwn" not in json.dumps(slack)
    body = render("twilio-sms", message)
    assert "@everyone" not in body["body"]
    assert "<!channel>" not in body["body"]


@pytest.mark.parametrize("kind", [*CHECKS, "text"])
def test_the_end_of_what_was_cut_is_marked(kind: str) -> None:
    assert "…" in json.dumps(render(kind, replace(MESSAGE, summary="word " * 5000)), ensure_ascii=False)


def test_a_redaction_is_whole_or_gone() -> None:
    assert REDACTED == REDACTED_THERE
    text = f"password is {REDACTED} for app"
    for most in range(2, len(text) + 1):
        shown = fit_text(text, most)
        assert length(shown) <= most
        assert "[" not in shown or REDACTED in shown


@settings(max_examples=60, deadline=None)
@given(texts, st.integers(1, 200))
def test_a_cut_text_is_within_its_room_and_splits_no_escape(text: str, most: int) -> None:
    for escapes in (TEXT, CODE, {}):
        shown = fit_text(text, most, escapes)
        assert length(shown) <= most
    shown = fit_text(text, most, TEXT).removesuffix("…")
    assert (len(shown) - len(shown.rstrip("\\"))) % 2 == 0


def test_text_of_a_message_keeps_what_to_type_when_lines_are_cut() -> None:
    body = render("pager-duty-webhook", replace(MESSAGE, summary="word " * 5000))["body"]
    assert len(body) <= 1500
    assert "Next: roas tickets t" in body


def test_slack_makes_no_links_of_its_own_in_the_line_of_links() -> None:
    label = "#general @here evil.example & <!channel>"
    shown = render("slack-webhook", replace(MESSAGE, links=(Link(label=label, address="https://ops.example/r"),)))

    (line,) = shown["attachments"][0]["blocks"][-1]["elements"]
    assert line["text"] == "<https://ops.example/r|#general @here evil.example &amp; &lt;!channel&gt;>"
    assert line["verbatim"] is True


def test_teams_is_sent_a_card_of_the_version_and_the_schema_that_it_knows() -> None:
    (attachment,) = render("ms-teams-webhook", MESSAGE)["attachments"]
    card = attachment["content"]

    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
    assert card["$schema"] == "http://adaptivecards.io/schemas/adaptive-card.json"
