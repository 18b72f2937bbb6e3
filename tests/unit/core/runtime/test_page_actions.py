from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.runtime.page_actions import (
    ACTIONS,
    MOST_CHARACTERS,
    PageAction,
    command_words,
    missing_fields,
    read_fields,
    run_parameters,
)
from core.runtime.page_forms import FormRequest, is_form_key, make_form_key
from models.failures import BadInputError

REQUEST = FormRequest(csrf="token", action="stop", environment="shop")
HOSTILE = ["--yes", "-y", "--env=other", "$(id)", "a;b", "--"]


def every_field(action: PageAction, value: str) -> dict[str, str]:
    """The action's form with this value wherever a person or a link chooses it."""
    return {field.name: field.choices[0][0] if field.choices else value for field in action.fields}


@pytest.mark.parametrize("action", ACTIONS.values(), ids=lambda action: action.name)
@pytest.mark.parametrize("value", HOSTILE)
def test_no_value_becomes_an_option(action: PageAction, value: str) -> None:
    harmless, hostile = (command_words(action, "shop", every_field(action, text), plan="") for text in ("x", value))

    at = harmless.index("--")
    assert hostile[at] == "--"
    assert [word.partition("=")[0] for word in hostile[:at]] == [word.partition("=")[0] for word in harmless[:at]]
    assert hostile[at + 1 :] == [value if word == "x" else word for word in harmless[at + 1 :]]


@pytest.mark.parametrize(
    ("name", "fields", "plan", "words"),
    [
        ("start", {}, "1a2b", "start --plan=1a2b -- shop"),
        ("stop", {}, "", "stop -- shop"),
        ("restart", {"service": "web"}, "", "restart -- shop web"),
        ("update", {"now": "on"}, "1a2b", "update --plan=1a2b --now -- shop"),
        ("rollback", {"release": "r-1"}, "", "rollback -- shop r-1"),
        ("rollback", {"release": "r-1", "with_data": "on"}, "", "rollback --with-data --yes -- shop r-1"),
        ("snapshot", {}, "", "snapshot create -- shop"),
        ("restore", {"snapshot": "s-1"}, "", "snapshot restore --yes -- shop s-1"),
        ("rehearse", {"snapshot": "s-1"}, "", "snapshot rehearse -- shop s-1"),
        ("pause", {"reason": "why", "length": "1h"}, "", "pause --env=shop --reason=why --for=1h --"),
        ("pause", {"reason": "why", "length": "resumed"}, "", "pause --env=shop --reason=why --"),
        ("resume", {"service": "web"}, "", "unpause --env=shop -- web"),
        ("acknowledge", {"alert": "a-1", "note": "mine"}, "", "acknowledge --note=mine -- a-1"),
        (
            "answer",
            {"ticket": "T-1", "decision": "retry", "note": "ok"},
            "",
            "resolve --decision=retry --note=ok -- T-1",
        ),
    ],
)
def test_an_action_is_the_command_of_its_name(name: str, fields: dict[str, str], plan: str, words: str) -> None:
    assert command_words(ACTIONS[name], "shop", fields, plan) == words.split()


@pytest.mark.parametrize(
    ("name", "fields", "plan", "parameters"),
    [
        ("start", {}, "1a2b", {"plan": "1a2b"}),
        ("stop", {}, "", {}),
        ("restart", {"service": "web"}, "", {"services": ["web"]}),
        ("update", {"now": "on"}, "1a2b", {"plan": "1a2b", "now": True}),
        ("rollback", {"release": "r-1", "with_data": "on"}, "", {"release": "r-1", "with_data": True}),
        ("restore", {"snapshot": "s-1"}, "", {"snapshot": "s-1", "confirmed": True}),
        ("rehearse", {"snapshot": "s-1"}, "", {"snapshot": "s-1"}),
    ],
)
def test_a_run_has_the_parameters_of_what_was_confirmed(
    name: str, fields: dict[str, str], plan: str, parameters: dict[str, object]
) -> None:
    assert run_parameters(ACTIONS[name], "shop", fields, plan) == {"environment": "shop"} | parameters


@pytest.mark.parametrize(
    "value", ["x" * (MOST_CHARACTERS + 1), "two\nlines", "\x1b[31m", "\u202eright to left", "nul\0"]
)
def test_a_field_is_one_bounded_line_of_text(value: str) -> None:
    with pytest.raises(BadInputError, match="Why"):
        read_fields(ACTIONS["pause"], {"reason": value})


def test_a_field_with_choices_has_no_other_value_and_empty_ones_are_missing() -> None:
    with pytest.raises(BadInputError, match="no such choice"):
        read_fields(ACTIONS["answer"], {"decision": "delete everything"})

    fields = read_fields(ACTIONS["answer"], {"ticket": "T-1", "decision": "retry", "note": "  ", "other": "x"})
    assert fields == {"ticket": "T-1", "decision": "retry"}
    assert missing_fields(ACTIONS["answer"], fields) == ["Why, or what fixed it"]


def test_what_may_lose_something_has_to_be_typed() -> None:
    assert {action.name for action in ACTIONS.values() if action.is_typed} == {"rollback", "restore"}


def test_a_form_key_is_for_its_request_and_its_time() -> None:
    key = make_form_key(REQUEST, "nonce", 100.0)

    assert is_form_key(key, REQUEST, now=99.0)
    assert not is_form_key(key, REQUEST, now=100.0)
    for other in (
        FormRequest(csrf="other", action="stop", environment="shop"),
        FormRequest(csrf="token", action="start", environment="shop"),
        FormRequest(csrf="token", action="stop", environment="shop2"),
    ):
        assert not is_form_key(key, other, now=99.0)
    assert not is_form_key(key.replace(".100.", ".999."), REQUEST, now=99.0)


@given(st.text())
def test_no_text_is_a_form_key(text: str) -> None:
    assert not is_form_key(text, REQUEST, now=0.0)
