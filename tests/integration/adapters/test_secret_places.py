"""A secret is written where it is, as a person wrote it, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.compose.secret_places import file_of_secret, put_secret, receivers, secret_of, text_of_secret
from adapters.host.fingerprints import Fingerprints
from adapters.host.pending_rotation import keep_pending, pending_file, pending_rotation
from models.environments import Environment, Secret
from models.failures import BadInputError, EnvironmentFileError, RotationError
from models.rotation import Rotation

OLD, NEW = "correct-horse-battery", "Zx81"
TOKEN = Secret(name="TOKEN")


def environment(folder: Path, *, secret: dict[str, object] | None = None, **fields: object) -> Environment:
    base = {"name": "dev", "project": "shop", "compose_files": [folder / "compose.yaml"]}
    return Environment.model_validate(base | {"secrets": [{"name": "TOKEN"} | (secret or {})]} | fields)


@pytest.mark.parametrize("line", ["TOKEN=old", "export TOKEN='old'", '  TOKEN = "old"   # of the shop'])
@pytest.mark.parametrize(("before", "after"), [("", ""), ("# first\n\n", "\nLAST=2\n"), ("A=1\r\n", "\r\n")])
def test_only_its_line_changes_and_comes_back_whole(tmp_path: Path, line: str, before: str, after: str) -> None:
    file = tmp_path / ".env"
    file.write_bytes((text := f"{before}{line}{after}").encode())
    file.chmod(0o640)

    old, new = text_of_secret(file, TOKEN, NEW)
    put_secret(file, "TOKEN", new, old, is_whole=False)

    assert f"TOKEN={NEW}" in file.read_text()
    assert file.read_bytes().startswith(before.encode())
    assert file.stat().st_mode & 0o777 == 0o640
    put_secret(file, "TOKEN", new, old, is_whole=False)
    put_secret(file, "TOKEN", old, new, is_whole=False)
    assert file.read_bytes() == text.encode()


def test_what_a_person_wrote_meanwhile_stays(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{OLD}\n")
    old, new = text_of_secret(file, Secret(name="TOKEN", file=file), NEW)
    assert new == f"{NEW}\n"
    file.write_text("by hand\n")

    with pytest.raises(EnvironmentFileError, match="was changed meanwhile"):
        put_secret(file, "TOKEN", new, old, is_whole=True)

    assert file.read_text() == "by hand\n"


def test_the_last_file_that_sets_it_is_the_one(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("one.env", "two.env", "three.env")]
    for file, text in zip(files, ("TOKEN=a\n", "TOKEN=b\n", "OTHER=c\n"), strict=True):
        file.write_text(text)

    assert file_of_secret(environment(tmp_path, env_files=files), TOKEN) == files[1]


def test_what_cannot_be_written_is_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_command = environment(tmp_path, secret={"command": ["pass", "show", "token"]})
    with pytest.raises(BadInputError, match="comes from the command pass"):
        file_of_secret(of_command, secret_of(of_command, "TOKEN"))
    with pytest.raises(BadInputError, match="TOKEN has no value"):
        file_of_secret(environment(tmp_path), TOKEN)
    with pytest.raises(BadInputError, match="GONE is not a secret of dev, which has: TOKEN"):
        secret_of(environment(tmp_path), "GONE")
    monkeypatch.setenv("TOKEN", "of the process")
    with pytest.raises(BadInputError, match="a variable of this process"):
        file_of_secret(environment(tmp_path), TOKEN)


def test_who_gets_a_secret_is_found_by_its_value_and_its_file() -> None:
    document = {
        "services": {
            "value": {"environment": {"URL": f"redis://:{OLD}@cache"}},
            "secret": {"secrets": [{"source": "token"}]},
            "mount": {"volumes": [{"type": "bind", "source": "/srv/token", "target": "/token"}]},
            "apart": {"environment": {"TOKEN_NAME": "TOKEN"}},
        },
        "secrets": {"token": {"file": "/srv/token"}},
    }

    assert receivers(document, Secret(name="TOKEN", file=Path("/srv/token")), OLD) == {"value", "secret", "mount"}


def test_the_values_of_a_rotation_are_sealed_and_a_damaged_seal_is_said(tmp_path: Path) -> None:
    rotation = Rotation(
        operation="dev-1", secret="TOKEN", old=OLD, new=NEW, file="/srv/.env", is_whole=False, old_text=f"TOKEN={OLD}",
        new_text=f"TOKEN={NEW}", services=("cache",), servers=("cache/",),
    )  # fmt: skip
    assert pending_rotation(tmp_path, "dev") is None
    Fingerprints(tmp_path)

    keep_pending(tmp_path, "dev", rotation)

    assert pending_rotation(tmp_path, "dev") == rotation
    file = pending_file(tmp_path, "dev")
    assert OLD.encode() not in file.read_bytes()
    assert OLD not in repr(rotation)
    file.write_bytes(b"damaged")
    with pytest.raises(RotationError, match="cannot be read"):
        pending_rotation(tmp_path, "dev")
