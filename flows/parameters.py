"""What the parameters that several flows share are called and mean, as the engine's UI shows it beside each field."""

from __future__ import annotations

from typing import Any

from pydantic import Field

ENVIRONMENT: Any = Field(description="Which environment: the NAME of deployments/environments/NAME.yaml.")

ASKED_BY: Any = Field(
    None, description="A name to stand in the record as claimed, beside what is proven: the schedule, or the user."
)

DEPLOYMENT_ID: Any = Field(None, description="The id of an interrupted operation to go on with; a new one without it.")

COMPOSE_FILES: Any = Field(
    None,
    description="Compose files of an application without an environment file; environment is its project.",
)

WAIT_SECONDS: Any = Field(
    0.0, ge=0, description="How many seconds to wait for another operation on the environment to end."
)

ACT: Any = Field(True, description="Off: judge and record only, change nothing.")
