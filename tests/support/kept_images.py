"""Take the names from images that data folders of tests kept for their releases."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from adapters.host.fingerprints import Fingerprints
from models.containers import RELEASE_IMAGES

_DEEPEST = 5


def forget_kept_images(folder: Path) -> None:
    """Untag the images that were kept by the data folders in a folder or some levels below it."""
    own = tuple(f"{RELEASE_IMAGES}:{Fingerprints(data).owner}-" for data in _data_folders(folder))
    if not own or shutil.which("docker") is None:
        return
    listed = ["docker", "image", "ls", RELEASE_IMAGES, "--format", "{{.Repository}}:{{.Tag}}"]
    names = subprocess.run(listed, capture_output=True, text=True, check=False).stdout.split()
    if mine := [name for name in names if name.startswith(own)]:
        subprocess.run(["docker", "image", "rm", "--no-prune", *mine], capture_output=True, check=False)


def _data_folders(folder: Path) -> Iterator[Path]:
    top = len(folder.parts)
    for found, folders, files in os.walk(folder):
        if "fingerprint.key" in files:
            yield Path(found)
        if len(Path(found).parts) - top >= _DEEPEST:
            folders.clear()
