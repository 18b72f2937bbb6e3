"""The configuration of a proxy, from the files of this machine that its container mounts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from adapters.host.private_files import read_regular

_NAMES = re.compile(r"Caddyfile|traefik\.(?:ya?ml|toml)|.+\.(?:conf|cfg|caddy)")
_MOST_FILES, _MOST_BYTES = 50, 1_000_000


def proxy_configuration(paths: Iterable[str]) -> str:
    """The text of configuration files at these paths or in these folders, without comments; empty where none is."""
    return "\n".join(_without_comments(text) for path in paths for text in _texts(Path(path)))


def _texts(path: Path) -> Iterator[str]:
    try:
        files = sorted(islice(path.rglob("*"), _MOST_FILES)) if path.is_dir() else [path]
        for file in files:
            if _NAMES.fullmatch(file.name) and file.is_file() and file.stat().st_size <= _MOST_BYTES:
                yield read_regular(file).decode("utf-8", errors="replace")
    except OSError:
        # Only a remark of the plan depends on it.
        return


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
