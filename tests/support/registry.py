"""A registry of images on loopback, whose tags a test can move."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.docker_command import docker_command
from tests.support.ports import free_port

IMAGE = "debian:trixie-slim"
_STARTS_WITHIN_SECONDS = 300


@dataclass(slots=True, kw_only=True)
class Registry:
    """Debian's docker-registry with its own folder."""

    folder: Path
    port: int
    settings: str = ""
    _process: subprocess.Popen[bytes] | None = None
    _images: set[str] = field(default_factory=set)

    def image(self, name: str) -> str:
        """The reference under which an application uses an image of that name."""
        return f"localhost:{self.port}/{name}"

    def publish(self, name: str, *lines: str) -> str:
        """Build an image of these lines of a Dockerfile and let the name mean it in the registry; its digest.

        The engine's own name of it stays as it is: the image is pushed under the other name of this machine.
        Another registry's image of the same lines is another image: whoever removes one here meets no container there.
        """
        pushed = f"127.0.0.1:{self.port}/{name}"
        text = "\n".join([f"FROM {IMAGE}", *lines, f"LABEL roas.tests.registry={self.port}", ""])
        subprocess.run(
            ["docker", "build", "-q", "-t", pushed, "-"], input=text, text=True, check=True, capture_output=True
        )
        self._images |= {pushed, self.image(name)}
        return self._push(pushed)

    @staticmethod
    def _push(name: str) -> str:
        done = subprocess.run(["docker", "push", name], text=True, check=True, capture_output=True)
        return next(word for word in done.stdout.split() if word.startswith("sha256:"))

    def move(self, name: str, to: str) -> str:
        """Let a name mean in the registry what another published name means; its digest."""
        source, target = f"127.0.0.1:{self.port}/{to}", f"127.0.0.1:{self.port}/{name}"
        docker_command("tag", source, target)
        self._images |= {target, self.image(name)}
        return self._push(target)

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        settings = self.folder / "registry.yml"
        settings.write_text(
            "version: 0.1\n"
            f"storage: {{filesystem: {{rootdirectory: {self.folder}/data}}}}\n"
            f"http: {{addr: 127.0.0.1:{self.port}}}\n"
            "log: {level: error}\n" + self.settings
        )
        with (self.folder / "registry.log").open("ab") as log:
            self._process = subprocess.Popen(["docker-registry", "serve", str(settings)], stdout=log, stderr=log)
        deadline = time.monotonic() + _STARTS_WITHIN_SECONDS
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            assert time.monotonic() < deadline, (self.folder / "registry.log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it; what it holds stays."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def remove_images(self) -> None:
        """Remove the names of its images from the engine, and the digests that moved names leave behind."""
        command = ["docker", "images", "--digests", "--format", "{{.Repository}} {{.Digest}}"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        own = (f"localhost:{self.port}/", f"127.0.0.1:{self.port}/")
        left = {line.replace(" ", "@") for line in listed.splitlines() if line.startswith(own) and "<none>" not in line}
        for name in sorted(self._images | left):
            subprocess.run(["docker", "rmi", "-f", name], capture_output=True, check=False)


def image_id(name: str) -> str:
    """The id of the image that a name refers to; empty where there is none."""
    command = ["docker", "image", "inspect", "-f", "{{.Id}}", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or "No such image" in done.stderr, done.stderr
    return done.stdout.strip()


@contextmanager
def registry(folder: Path) -> Iterator[Registry]:
    """A registry that runs meanwhile."""
    folder.mkdir()
    made = Registry(folder=folder, port=free_port())
    made.start()
    try:
        yield made
    finally:
        made.stop()
        made.remove_images()
