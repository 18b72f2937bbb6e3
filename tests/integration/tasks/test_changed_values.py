"""Which values are others now than in a release: of variables, files of variables, and literals like secrets."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters.host.fingerprints import Fingerprints
from core.deployment.release import HELD_OUT, replace_secrets, variables_in
from models.records import Release
from tasks.deployment.kept_values import unkept_values
from tasks.deployment.release import changed_variables
from tasks.runtime.clients import find_environment
from tasks.runtime.project import Project, open_project

PASSWORD = "services.app.environment.DB_PASSWORD"
COMPOSE = """\
services:
  app:
    image: shop:1
    env_file: [shop.env, {path: more.env, required: false}]
    environment: {DB_PASSWORD: correct-horse-battery-7, GREETING: hello}
"""


async def test_a_release_knows_which_values_changed_and_holds_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ROAS_ENVIRONMENTS_DIR", str(tmp_path))
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    (tmp_path / "shop.env").write_text("DB_HOST=db\n")
    (tmp_path / "test.yaml").write_text("name: test\nproject: shop\ncompose_files: [compose.yaml]\n")
    environment = find_environment("test")
    written = Project(environment).compose().template()
    template = replace_secrets(written, Project(environment).redactor().value(written))
    kept = unkept_values(Project(environment), template, Fingerprints(tmp_path / "data"))
    now = datetime.now(UTC)
    release = Release(
        release_id="r-1", environment="test", deployment_id="d-1", created_at=now, compose=template, variables=kept
    )

    assert template["services"]["app"]["environment"] == {"DB_PASSWORD": HELD_OUT, "GREETING": "hello"}
    assert not variables_in(template)
    assert list(kept) == [PASSWORD, f"{tmp_path}/more.env", f"{tmp_path}/shop.env"]
    assert "correct-horse" not in repr(release)
    assert await changed_variables(Project(environment), release) == ()

    (tmp_path / "compose.yaml").write_text(COMPOSE.replace("battery-7", "battery-8").replace("hello", "bye"))
    assert await changed_variables(open_project("test"), release) == (PASSWORD,)
    (tmp_path / "shop.env").write_text("DB_HOST=base\n")
    (tmp_path / "more.env").write_text("DB_PORT=1\n")
    others = (f"{tmp_path}/more.env", f"{tmp_path}/shop.env", PASSWORD)
    assert await changed_variables(open_project("test"), release) == others
