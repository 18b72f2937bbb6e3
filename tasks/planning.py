"""What a start would do: looked up, never done."""

from __future__ import annotations

from core.compose import plan
from models.compose import Plan
from models.environments import Environment
from tasks.doors import compose_of, engine_of


def read_plan(environment: Environment) -> Plan:
    """Per service keep, start, restart, recreate or create, and because of which change.

    Only questions are asked: of Compose for what is declared, of the engine for what is there.

    Raises:
        ComposeError: The Compose files cannot be read.
        EngineUnreachableError: The engine did not answer.
    """
    engine, application = engine_of(environment), compose_of(environment).render()
    references = {declaration.image for declaration in application.services.values() if declaration.image}
    found = {reference: engine.image(reference) for reference in references}
    images = {reference: fact.image_id for reference, fact in found.items() if fact is not None}
    return plan(application, engine.sightings(environment.project), images)
