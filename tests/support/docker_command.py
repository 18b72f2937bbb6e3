"""What the docker command prints, and why it refused."""

from __future__ import annotations

import subprocess
import time

_PAUSES_WITHIN_SECONDS = 10


def docker_command(*words: str) -> str:
    """What `docker` prints, without white space around it.

    Pausing is tried again for a while: control groups of version 1 do not freeze what waits for a busy disk.
    """
    deadline = time.monotonic() + (_PAUSES_WITHIN_SECONDS if words[0] == "pause" else 0)
    while (done := subprocess.run(["docker", *words], capture_output=True, text=True, check=False)).returncode:
        assert time.monotonic() < deadline, f"docker {' '.join(words)}: {done.stderr}"
        time.sleep(0.5)
    return done.stdout.strip()
