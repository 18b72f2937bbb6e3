"""Variables of the programs of a gate: no secret of an environment is among them."""

from __future__ import annotations

import os

_PASSED_ON = ("PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME",
              "SSL_CERT_FILE", "SSL_CERT_DIR",
              "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")  # fmt: skip


def variables_of_programs(*prefixes: str) -> dict[str, str]:
    """The variables that a program of a gate gets: no secret of an environment, and those with one of the prefixes."""
    return {"PATH": os.defpath} | {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or (prefixes and name.startswith(prefixes))
    }
