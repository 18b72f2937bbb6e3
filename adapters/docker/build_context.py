"""The content of a build context, as the engine would receive it."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

from docker.utils.build import exclude_paths

from adapters.host.private_files import MIB, read_regular

_MOST_FILES = 20_000
_MOST_BYTES = 512 * MIB


def context_hash(context: str, dockerfile: str) -> str:
    """Hash all that a build can read: the files of its context that .dockerignore leaves in, and its Dockerfile.

    Times do not count, since the engine's build cache ignores them too.

    Raises:
        OSError: The context is no folder of this machine, cannot be read, or is too large.
    """
    root = Path(context)
    if not root.is_dir():
        raise OSError(errno.ENOTDIR, "is no folder of this machine", context)
    digest, remaining_bytes = hashlib.sha256(), _MOST_BYTES
    paths = sorted(exclude_paths(str(root), _patterns(root, dockerfile), dockerfile=dockerfile or "Dockerfile"))
    if len(paths) > _MOST_FILES:
        raise OSError(errno.EFBIG, "has too many files", context)
    outside = [dockerfile] if Path(dockerfile).is_absolute() and Path(dockerfile).is_file() else []
    for path in [*paths, *outside]:
        full = root / path
        status = full.lstat()
        digest.update(f"{path}\0{stat.S_IFMT(status.st_mode)} {status.st_mode & 0o111}\0".encode())
        if stat.S_ISLNK(status.st_mode):
            digest.update(os.fsencode(full.readlink()))
        elif stat.S_ISREG(status.st_mode):
            remaining_bytes -= status.st_size
            if remaining_bytes < 0:
                raise OSError(errno.EFBIG, "is too large", context)
            digest.update(hashlib.sha256(read_regular(full, at_most=_MOST_BYTES)).digest())
    return digest.hexdigest()


def _patterns(root: Path, dockerfile: str) -> list[str]:
    """The patterns of .dockerignore; a Dockerfile's own file of patterns replaces it."""
    dockerfile_patterns = root / f"{dockerfile or 'Dockerfile'}.dockerignore"
    file = dockerfile_patterns if dockerfile_patterns.is_file() else root / ".dockerignore"
    if not file.is_file():
        return []
    lines = read_regular(file).decode("utf-8", "replace").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
