"""How a plan says that a service is replaced start-first, or why it is not."""

from __future__ import annotations

import pytest

from cli.rendering.releases import show_plan
from models.compose import Interruption, Plan, PlannedAction, PlannedService

WEB = PlannedService(service="web", action=PlannedAction.RECREATE, because="its build context changed")


def shown(line: PlannedService, capsys: pytest.CaptureFixture[str]) -> str:
    show_plan(Plan(project="shop", services=(line,), waves=(("web",),)), "shop", "update")
    return " ".join(capsys.readouterr().out.split())


def test_a_service_that_is_replaced_start_first_is_not_interrupted(capsys: pytest.CaptureFixture[str]) -> None:
    line = PlannedService(
        service="web", action=WEB.action, because=WEB.because, start_first=True, note="front does not try again"
    )
    said = shown(line, capsys)

    assert "start-first: no interruption" in said
    assert "web: front does not try again" in said


def test_a_service_that_cannot_be_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    line = PlannedService(
        service="web",
        action=WEB.action,
        because=WEB.because,
        interruption=Interruption.REPLACED,
        stop_first_because="port 8080 of the host is fixed",
    )
    said = shown(line, capsys)

    assert "stopped and started again, not yet measured" in said
    assert "web: stop-first because port 8080 of the host is fixed" in said
