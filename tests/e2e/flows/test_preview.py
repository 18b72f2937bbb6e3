"""The run that finds out what an action would do answers as the command, by an artifact, and changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterType

from core.runtime.page_actions import PREVIEW_ARTIFACT
from flows.deployment.preview import preview
from models.failures import BadInputError
from tests.e2e.flows.conftest import Place, well

pytestmark = pytest.mark.flow


async def answers() -> list[dict[str, Any]]:
    """What runs left, the newest last."""
    async with get_client() as client:
        artifacts = await client.read_artifacts(
            artifact_filter=ArtifactFilter(type=ArtifactFilterType(any_=[PREVIEW_ARTIFACT]))
        )
    return [
        json.loads(str(artifact.data)) for artifact in sorted(artifacts, key=lambda artifact: str(artifact.created))
    ]


@pytest.mark.engine
async def test_a_run_leaves_the_document_of_the_command_and_changes_nothing(place: Place) -> None:
    place.declare(well("web"))
    command = [sys.executable, "-P", "-c", "from cli.main import main; main()", "plan", "--json", "--", "test"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    await preview(environment="test", action="start")

    assert (await answers())[-1] == {"document": json.loads(printed)}
    assert place.containers() == []
    assert place.stores().operations.history("test") == []


async def test_why_nothing_can_be_shown_is_the_answer_too(place: Place) -> None:
    await preview(environment="test", action="rollback", release="r-1")

    assert "problem" in (await answers())[-1]


async def test_a_run_previews_nothing_that_it_does_not_know(place: Place) -> None:
    with pytest.raises(BadInputError, match="no action stop"):
        await preview(environment="test", action="stop")
