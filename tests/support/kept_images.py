"""Take the names from images that data folders of tests kept for their releases."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from adapters.host.fingerprints import Fingerprints
from models.containers import RELEASE_IMAGES

_DEEPEST = 5


def forget_kept_images(folder: Path) -> None:
    """Untag the images that were kept by the data folders in a folder or some levels below it."""
    own = tuple(f"{RELEASE_IMAGES}:{Fingerprints(data).owner}-" for data in _data_folders(folder))
    if not own:
        return
    # Tests without an engine need not wait for its library, and those with one not for a process.
    import docker

    with suppress(docker.errors.DockerException), closing(docker.from_env()) as engine:
        names = [name for image in engine.images.list(RELEASE_IMAGES) for name in image.tags if name.startswith(own)]
        for name in names:
            # One that is in use keeps its name, and the others do not.
            with suppress(docker.errors.APIError):
                engine.images.remove(name, noprune=True)


def _data_folders(folder: Path) -> Iterator[Path]:
    top = len(folder.parts)
    for found, folders, files in os.walk(folder):
        if "fingerprint.key" in files:
            yield Path(found)
        if len(Path(found).parts) - top >= _DEEPEST:
            folders.clear()
