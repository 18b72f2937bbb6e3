"""What is proposed for Compose files of usual shapes, in words; each proposal is an environment that loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.adoption import gather_application
from adapters.config.environment_writer import environment_text
from adapters.config.environments import environment_for_compose_files, read_environment
from adapters.programs import shipped_programs
from core.adoption.propose import propose
from models.adoption import Proposal, ServiceProposal, UsedVariable
from models.environments import AmqpProbe, HttpProbe, Probe

SHAPES: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("adoption_shapes.yaml").read_text())
SECRET = "correct-horse"


def in_words(one: ServiceProposal) -> str:
    """A proposal as the cases write it."""
    parts = [one.program or "unknown", probe_in_words(one.spec.probe)]
    if one.health_check:
        parts.append("health check offered")
    if one.is_job:
        parts.append("job")
    if not one.spec.required:
        parts.append("not required")
    if one.spec.outside_logins:
        parts.append("logs in outside")
    if one.dependencies:
        parts.append(f"needs {', '.join(sorted(one.dependencies))}")
    parts += [f"can log in once .env has {one.split()[1]}" for one in one.remarks if "a probe that logs in" in one]
    return "; ".join(parts)


def probe_in_words(probe: Probe | None) -> str:
    if probe is None:
        return "no probe"
    words = [probe.kind] if probe.kind == "command" else [f"{probe.kind} {probe.port}"]
    if isinstance(probe, HttpProbe):
        words[0] += probe.path
    given = probe.model_dump(exclude_unset=True)
    words += [f"as {given['user']}"] if "user" in given else []
    place = given.get("virtual_host" if isinstance(probe, AmqpProbe) else "database")
    words += [f"at {place}"] if place else []
    words += [f"with {given['password_secret']}"] if given.get("password_secret") else []
    return " ".join(words)


def secret_in_words(secret: UsedVariable, folder: Path) -> str:
    if secret.file is not None:
        return f"{secret.name} from {secret.file.relative_to(folder)}"
    return secret.name if secret.is_set else f"{secret.name} without a value"


@pytest.fixture
def shape(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    for name, text in request.param["files"].items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for name in ("DISCORD_TOKEN", "DOCKER_HOST", "COMPOSE_FILE", "COMPOSE_PROJECT_NAME"):
        monkeypatch.delenv(name, raising=False)
    return dict(request.param)


@pytest.mark.parametrize("shape", SHAPES, indirect=True, ids=lambda one: one["name"])
def test_proposes_for_the_shape(shape: dict[str, Any], tmp_path: Path) -> None:
    environment = environment_for_compose_files((tmp_path / "compose.yaml",), "shop", cwd=tmp_path)
    facts = gather_application(environment)
    proposal: Proposal = propose(facts, shipped_programs())
    assert {one.service: in_words(one) for one in proposal.services} == shape["expected"]
    assert [secret_in_words(one, tmp_path) for one in proposal.secrets] == shape["secrets"]

    file = tmp_path / "roas" / "shop.yaml"
    text = environment_text(file, facts, proposal, name="shop")
    assert SECRET not in text
    assert SECRET not in repr(proposal)
    file.parent.mkdir()
    file.write_text(text)
    written = read_environment(file)
    assert {name: spec.probe for name, spec in written.services.items() if spec.probe} == {
        one.service: one.spec.probe for one in proposal.services if one.spec.probe
    }
    for secret in written.secrets:
        assert secret.file is None or secret.file.is_file()
