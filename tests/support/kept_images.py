"""Take the names from images that data folders of tests kept for their releases."""

from __future__ import annotations

import subprocess
from pathlib import Path

from adapters.host.fingerprints import Fingerprints
from models.containers import RELEASE_IMAGES


def forget_kept_images(folder: Path) -> None:
    """Untag the images that were kept by the data folders in a folder or up to two levels below it."""
    keys = [key for depth in ("*", "*/*", "*/*/*") for key in folder.glob(f"{depth[:-1]}fingerprint.key")]
    own = tuple(f"{RELEASE_IMAGES}:{Fingerprints(key.parent).owner}-" for key in keys)
    if not own:
        return
    listed = ["docker", "image", "ls", RELEASE_IMAGES, "--format", "{{.Repository}}:{{.Tag}}"]
    names = subprocess.run(listed, capture_output=True, text=True, check=False).stdout.split()
    if mine := [name for name in names if name.startswith(own)]:
        subprocess.run(["docker", "image", "rm", "--no-prune", *mine], capture_output=True, check=False)
