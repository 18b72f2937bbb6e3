"""What a process that forks has prepared holds for requests with another folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, sys, yaml
from flows.server.engine_settings import prepare_for_forks, take_settings_over
import flows.registry
prepare_for_forks()
asked = []
load, yaml.safe_load = yaml.safe_load, lambda text: asked.append(text) or load(text)
os.environ["PREFECT_HOME"] = sys.argv[1]
os.chdir(sys.argv[1])
take_settings_over()
in_another_folder = len(asked)
os.environ["PREFECT_LOGGING_LEVEL"] = "ERROR"
take_settings_over()
print(in_another_folder, len(asked))
"""


def test_the_logging_configuration_is_read_again_only_for_other_settings_of_it(tmp_path: Path) -> None:
    kept = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
    variables = kept | {"PYTHONPATH": str(Path(__file__).parents[3]), "PREFECT_HOME": str(tmp_path / "of-the-fork")}

    place = tmp_path / "of-a-request"
    place.mkdir()
    # It says nothing of the configuration itself.
    (place / "prefect.toml").write_text("[logging.to_api]\nwhen_missing_flow = 'ignore'\n")

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(place)],
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split() == ["0", "1"]
