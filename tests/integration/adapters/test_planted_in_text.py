"""Each planted secret goes from what the application prints and from the release that is kept of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters.compose.declared_secrets import concealed_values
from adapters.config.environments import load_environment
from core.deployment.release import replace_secrets
from core.errors.redact import Redactor
from models.settings import Settings
from tests.e2e.flows.conftest import Place
from tests.e2e.flows.planted import DECLARED, TYPED, plant
from tests.e2e.flows.test_secrets_nowhere import PLANTED, spellings


def test_no_planted_secret_is_left_in_a_log_or_a_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(folder=tmp_path, project="planted", settings=Settings())
    for name, value in plant(place, broken=True).items():
        monkeypatch.setenv(name, value)
    redactor = Redactor(concealed_values(load_environment("test", tmp_path)))
    typed = [f"password={value}" for name, value in TYPED.items() if name != "image name"]
    said = [(tmp_path / "said.txt").read_text(), *typed, f"image 127.0.0.1:9/shop:{TYPED['image name']} is unknown"]
    document = json.loads((tmp_path / "compose.yaml").read_text())

    left = redactor.text("\n".join(said))
    kept = replace_secrets(document, redactor.value(document))
    written = (left + json.dumps(kept, ensure_ascii=False)).encode()

    assert [name for name, secret in PLANTED.items() if any(one in written for one in spellings(secret))] == []
    for secret in (DECLARED["env_file, by name"], DECLARED["secret of the environment, by file"]):
        # Broken between two lines.
        assert secret[: len(secret) // 2] not in left
        assert secret[len(secret) // 2 :] not in left
    # Text without secrets stays readable, in the log and in the release.
    assert left.count("FATAL: the application shows") == (tmp_path / "said.txt").read_text().count("FATAL: the app")
    assert kept["services"]["talker"]["environment"]["TOKEN"] == "${APP_PLANTED_TOKEN}"
    assert kept["services"]["talker"]["volumes"] == document["services"]["talker"]["volumes"]
