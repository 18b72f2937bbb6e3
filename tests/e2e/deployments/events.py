from __future__ import annotations

import subprocess
import threading

TIMEOUT_SECONDS = 300


def await_event(container: str, action: str, *, since: str = "0") -> None:
    """Return once the engine has told of this about the container (events of the past count, from `since` on)."""
    with subprocess.Popen(
        [
            *("docker", "events", "--since", since, "--format", "{{.Action}}"),
            *("--filter", f"container={container}"),
        ],
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as events:
        assert events.stdout is not None
        limit = threading.Timer(TIMEOUT_SECONDS, events.kill)
        limit.start()
        try:
            seen = []
            for line in events.stdout:
                seen.append(line.strip())
                if seen[-1] == action:
                    return
        finally:
            limit.cancel()
            events.kill()
    raise AssertionError(f"{container} never said {action!r}; it said {seen}")
