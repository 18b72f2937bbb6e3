"""The JSON Schema of environment files: the one in the package is the model's."""

from __future__ import annotations

import json

from click.testing import CliRunner

from adapters.config.environment_schema import FILE, schema_text
from cli.main import roas
from models.environments import Environment, environment_schema


def test_the_schema_in_the_package_is_current() -> None:
    # After a change of the model: write json.dumps(environment_schema(), indent=2) there.
    assert json.dumps(environment_schema(), indent=2) + "\n" == schema_text()
    assert FILE.name == "environment.schema.json"


def test_the_command_prints_it() -> None:
    assert json.loads(CliRunner().invoke(roas, ["schema"]).output) == environment_schema()


def test_it_asks_for_no_name_and_knows_every_field() -> None:
    schema = environment_schema()
    assert sorted(schema["required"]) == ["compose_files", "project"]
    assert schema["properties"].keys() == Environment.model_fields.keys()
