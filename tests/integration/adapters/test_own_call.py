"""A function called in a process of its own: what it returns, yields and raises, and that it ends with who reads."""

from __future__ import annotations

import os
from contextlib import closing

import pytest

from adapters.host.own_call import call, call_iterator
from models.failures import BadInputError, RoasError

COUNT = "tests.support.called:count"


def test_a_value_comes_from_another_process_which_has_ended_then() -> None:
    process_id = call("os:getpid")

    assert process_id != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(process_id, 0)


def test_what_an_iterator_yields_comes_as_it_is_made_and_its_process_ends_with_who_reads() -> None:
    with closing(call_iterator(COUNT)) as values:
        process_id, *numbers = [next(values) for _ in range(4)]

    assert numbers == [0, 1, 2]
    with pytest.raises(ProcessLookupError):
        os.kill(process_id, 0)


def test_an_error_that_a_person_can_act_on_keeps_its_kind_and_its_two_sentences() -> None:
    with pytest.raises(BadInputError) as raised:
        call("tests.support.called:refuse", "web")

    assert (raised.value.what, raised.value.advice) == ("web is not there;", "try another.")


@pytest.mark.parametrize("ending", ["die", "die_answering", "fail"])
def test_one_whose_process_is_killed_or_whose_function_fails_says_so(
    ending: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RoasError, match="ended without an answer"):
        call(f"tests.support.called:{ending}")
    assert ("ZeroDivisionError" in capfd.readouterr().err) is (ending == "fail")


def test_what_a_function_prints_is_not_taken_for_its_answer() -> None:
    assert call("tests.support.called:printing") == 5
