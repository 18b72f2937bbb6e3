"""The quick cases of the gallery, in images that the tests have anyway: the report is what a person says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest

from models.errors import REFUSED
from tests.e2e.gallery.case import read_cases
from tests.e2e.gallery.judged import Judged, judge
from tests.support.prefect_server import server_variables

pytestmark = [pytest.mark.engine, pytest.mark.flow, pytest.mark.campaign]

QUICK = {case.name: case for case in read_cases() if case.quick}
_AT_ONCE = 4


@pytest.fixture(scope="module")
def judging(prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Future[Judged]]]:
    """All quick cases, several at once: each waits for containers most of its time."""
    folder, variables = tmp_path_factory.mktemp("gallery"), server_variables()
    futures = {}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for name, case in QUICK.items():
            futures[name] = pool.submit(judge, case, folder / name, variables)
            if len(futures) == 1:
                # It leaves the warm process that the others use; else each of them would begin cold.
                wait(futures.values())
        yield futures


@pytest.mark.parametrize("name", QUICK)
def test_a_case_is_judged_as_a_person_does(name: str, judging: Mapping[str, Future[Judged]]) -> None:
    judged = judging[name].result()

    assert judged.verdict_right, judged.output
    assert judged.harmful == ()
    if judged.case.is_healthy:
        assert judged.errors == ()
    else:
        assert judged.blame_right, judged.why
        assert judged.cause_right, judged.why
        # What validation refused to the person who typed it needs no ticket: the command said it.
        reported_in = "output" if judged.errors[0].source == REFUSED else "ticket"
        assert {"cause", "why", reported_in} <= set(judged.shown_in), judged.why


def test_the_gallery_has_what_it_promises() -> None:
    cases = read_cases()
    healthy = [case for case in cases if case.is_healthy]

    assert len(healthy) >= 10
    assert len(cases) - len(healthy) >= 30
    for case in cases:
        if not case.is_healthy:
            assert case.expect.blame, case.name
            assert case.expect.causes, case.name
            assert case.expect.line, case.name
