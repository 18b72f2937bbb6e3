"""The sample application that `roas sample` writes."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from adapters.config.environments import read_environment
from adapters.sample import write_sample
from models.failures import BadInputError


@pytest.fixture
def _umask_of_our_processes() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_umask_of_our_processes")
def test_the_folder_holds_all_that_a_start_reads(tmp_path: Path) -> None:
    file = write_sample(tmp_path / "trial")
    folder = file.parent
    environment = read_environment(file, "sample")
    (compose,) = environment.compose_files
    services = yaml.safe_load(compose.read_text())["services"]
    for service in services.values():
        assert service["image"].startswith("roas-sample/")
        assert "FROM debian:" in (folder / service["build"] / "Dockerfile").read_text()
        assert all(Path(folder, one.split(":")[0]).exists() for one in service.get("volumes", ()) if one[0] == ".")
    (secret,) = environment.secrets
    assert secret.file is not None
    assert stat.S_IMODE(secret.file.stat().st_mode) == 0o600
    assert len(secret.file.read_text()) == 48
    # Containers run as other users and read these.
    assert stat.S_IMODE((folder / "prometheus.yml").stat().st_mode) == 0o644
    schema = file.read_text().partition("\n")[0].removeprefix("# yaml-language-server: $schema=")
    assert Path(schema).is_file()


def test_nothing_names_a_file_of_a_checkout(tmp_path: Path) -> None:
    write_sample(tmp_path)
    for file in tmp_path.rglob("*"):
        if file.is_file() and file.name != "roas.yaml":
            assert "../" not in file.read_text(), file


def test_each_sample_has_its_own_password(tmp_path: Path) -> None:
    one, other = (read_environment(write_sample(tmp_path / name), "sample").secrets[0] for name in "ab")
    assert one.file is not None
    assert other.file is not None
    assert one.file.read_text() != other.file.read_text()


def test_a_folder_with_content_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(BadInputError, match="not an empty folder"):
        write_sample(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["mine"]
