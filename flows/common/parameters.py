"""What the parameters that several flows share are called and mean, as the engine's UI shows it beside each field."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from flows.common.server_outages import keep_runs_without_lease

# Each flow imports this module, also where its run imports nothing else.
keep_runs_without_lease()

EnvironmentName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
"""A plain name, never a path; the server refuses any other, and so does a run."""

ComposeFiles = SkipJsonSchema[list[str] | None]
"""The command line's own: no deployment offers it, and what a run of one is given is refused (`find_environment`)."""

# The constraints of a parameter count in its type alone: in its default, the engine reads nothing but the description.
Seconds = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]

ENVIRONMENT: Any = Field(description="Which environment: the NAME of deployments/environments/NAME.yaml.")

ASKED_BY: Any = Field(
    None, description="A name to stand in the record as claimed, beside what is proven: the schedule, or the user."
)

DEPLOYMENT_ID: Any = Field(None, description="The id of an interrupted operation to go on with; a new one without it.")

COMPOSE_FILES: Any = Field(
    None,
    description="Compose files of an application without an environment file; environment is its project.",
)

WAIT_SECONDS: Any = Field(0.0, description="How many seconds to wait for another operation on the environment to end.")

CONFIRM: Any = Field(
    "", description="The environment's name, where it is locked or others need it: who asks has to type it."
)

ACT: Any = Field(True, description="Off: judge and record only, change nothing.")
