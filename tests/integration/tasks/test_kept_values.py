"""What a release keeps of its values: those that were proven, sealed by this installation's key."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.host.fingerprints import Fingerprints
from models.environments import Environment
from models.records import Release
from models.settings import current_settings
from tasks.deployment.kept_files import sweep_kept_files
from tasks.deployment.kept_values import keep_values, kept_values, with_kept_values
from tasks.runtime.clients import find_environment
from tasks.runtime.project import Project
from tasks.runtime.stores import open_stores

COMPOSE = "services: {app: {image: 'shop:1', env_file: [shop.env, {path: late.env, required: false}], user: $OWNER}}\n"


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ROAS_ENVIRONMENTS_DIR", str(tmp_path))
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    (tmp_path / ".env").write_text("OWNER=first\n")
    (tmp_path / "shop.env").write_text("GREETING=first\n")
    (tmp_path / "test.yaml").write_text("name: test\nproject: shop\ncompose_files: [compose.yaml]\n")
    return find_environment("test")


def released(environment: Environment) -> Release:
    prints, folder = Fingerprints(current_settings().data_dir), environment.compose_files[0].parent
    variables = {
        "OWNER": prints.keyed_hash("first"),
        f"{folder}/late.env": "",
        **prints.fingerprint_file(folder / "shop.env"),
    }
    now = datetime.now(UTC)
    return Release(
        release_id="r-1", environment="test", deployment_id="d-1", created_at=now, proven=True, variables=variables,
        compose=Project(environment).compose().template(),
    )  # fmt: skip


def later() -> datetime:
    """A start that began after all files were written."""
    return datetime.now(UTC) + timedelta(seconds=1)


def test_a_document_with_kept_values_renders_as_it_did(environment: Environment, tmp_path: Path) -> None:
    release = released(environment)
    keep_values(Project(environment), release, later())
    before = Project(environment).compose().render()
    (tmp_path / ".env").write_text("OWNER=second\n")
    for name in ("shop.env", "late.env"):
        (tmp_path / name).write_text("GREETING=second\n")

    values = kept_values(environment, release)
    assert values is not None
    document = with_kept_values(Project(environment), release, release.compose, values)
    again = Project(environment).compose(document).render()

    assert again.services["app"].config_hash == before.services["app"].config_hash
    assert Project(environment).compose().render().services["app"].config_hash != before.services["app"].config_hash
    assert "first" not in repr(values)


def test_values_of_a_file_that_changed_since_the_operation_began_are_not_kept(environment: Environment) -> None:
    release = released(environment)
    keep_values(Project(environment), release, datetime.now(UTC) - timedelta(minutes=1))
    assert kept_values(environment, release) is None


def test_values_are_gone_with_another_key_and_where_they_may_not_be_kept(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = released(environment)
    keep_values(Project(environment), release, later())
    monkeypatch.setenv("ROAS_KEEP_FILES", "false")
    assert kept_values(environment, release) is None
    monkeypatch.delenv("ROAS_KEEP_FILES")
    assert kept_values(environment, release) is not None
    (current_settings().data_dir / "fingerprint.key").write_bytes(b"k" * 32)
    assert kept_values(environment, release) is None


def test_a_sweep_leaves_the_values_that_a_release_names(environment: Environment) -> None:
    release = released(environment)
    open_stores().releases.keep(release)
    keep_values(Project(environment), release, later())
    sealed = [*(current_settings().data_dir / "sealed" / "test").iterdir()]
    long_ago = (datetime.now(UTC) - timedelta(days=60)).timestamp()
    for one in sealed:
        os.utime(one, (long_ago, long_ago))

    sweep_kept_files()

    assert len(sealed) == 2
    assert all(one.exists() for one in sealed)


def test_a_disk_that_takes_no_copy_ends_no_rollback(
    environment: Environment, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    release = released(environment)
    keep_values(Project(environment), release, later())
    (tmp_path / "shop.env").write_text("GREETING=second\n")
    # Nothing can be made in it, as on a full disk.
    (current_settings().data_dir / "mounted").write_text("")

    values = kept_values(environment, release)
    assert values is not None
    document = with_kept_values(Project(environment), release, release.compose, values)

    named = {str(one["path"]) for one in document["services"]["app"]["env_file"]}
    assert named == {"/dev/null", str(tmp_path / "shop.env")}
    assert "there is no copy of" in caplog.text
