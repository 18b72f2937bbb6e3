"""Vulnerability scanners of images: Trivy and Grype, run as programs, and a cache of what they found."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adapters.gate.programs import variables_of_programs
from adapters.host.private_files import make_private_folder, read_regular, write_private
from adapters.host.programs import ProgramRun, run_beside
from core.common.safe_text import printable, shorten
from core.deployment.scan import read_grype, read_trivy
from models.environments import Environment
from models.failures import ScanFailedError
from models.gates import ImageFinding, ImageScan, ImageScanResult

_READERS = {"trivy": read_trivy, "grype": read_grype}
_REPORT_BYTES = 64 * 1024 * 1024
_CACHED_BYTES = 16 * 1024 * 1024
_CACHED_FILES = 100
_DIGITS = 12
# Grype ends with 2 where its own configuration asks it to fail on a severity; its report is whole.
_ENDED_WELL = (0, 2)
_ERROR = re.compile(r"\b(?:FATAL|ERROR)\b\s*(?:Fatal error\s+)?")
_LONGEST_ERROR = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageScanner:
    """A scanner that is installed, for the images of one engine. `folder` is where its own settings may be."""

    program: str
    path: str
    engine: str
    folder: Path
    limit_seconds: float

    async def scan(self, image_id: str) -> ImageScanResult:
        """Scan an image of the engine.

        Raises:
            ScanFailedError: It cannot be scanned: the scanner has no database, or cannot read the image.
        """
        program = ProgramRun(
            words=self._words(image_id.removeprefix("sha256:")[:_DIGITS]),
            variables=variables_of_programs("TRIVY_", "GRYPE_", "DOCKER_") | {"DOCKER_HOST": self.engine},
            limit_seconds=self.limit_seconds,
            most_bytes=_REPORT_BYTES,
            folder=self.folder,
        )
        try:
            result = await run_beside(program)
        except OSError as error:
            raise ScanFailedError(f"{self.path} cannot be run: {error.strerror}") from error
        if result.code is None:
            raise ScanFailedError(f"{self.program} did not end within {self.limit_seconds:g} s")
        if result.is_cut:
            raise ScanFailedError(f"{self.program} printed more than {_REPORT_BYTES // 2**20} MiB")
        if result.code not in _ENDED_WELL:
            raise ScanFailedError(f"{self.program} {result.ending}: {_words_of(result.err)}")
        try:
            findings = _READERS[self.program](json.loads(result.out))
        except (ValueError, RecursionError) as error:
            raise ScanFailedError(f"{self.program} printed no report that can be read: {error}") from error
        return ImageScanResult(image_id=image_id, program=self.program, scanned_at=datetime.now(UTC), findings=findings)

    def _words(self, image: str) -> list[str]:
        if self.program == "trivy":
            options = ["--quiet", "--format", "json", "--scanners", "vuln", "--image-src", "docker", "--exit-code", "0"]
            return [self.path, "image", *options, "--timeout", f"{self.limit_seconds:.0f}s", image]
        return [self.path, "--quiet", "--output", "json", f"docker:{image}"]


def find_scanner(scan: ImageScan, environment: Environment) -> ImageScanner | None:
    """The scanner that an environment wants; None where it wants none.

    Raises:
        ScanFailedError: It is not installed.
    """
    if scan.program == "none":
        return None
    names = list(_READERS) if scan.program == "auto" else [scan.program]
    search = variables_of_programs()["PATH"]
    for name in names:
        if path := shutil.which(name, path=search):
            engine = environment.engine.replace("http://", "tcp://", 1)
            folder = environment.compose_files[0].parent
            limit = scan.timeout_seconds
            return ImageScanner(program=name, path=path, engine=engine, folder=folder, limit_seconds=limit)
    raise ScanFailedError(f"{names[0]} is not installed" if len(names) == 1 else "neither trivy nor grype is installed")


class ScanCache:
    """Keeps the findings of scanned images in the data folder, so that the image before is not scanned again."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "scans"

    def get(self, program: str, image_id: str) -> ImageScanResult | None:
        """What the scanner found in the image the last time; None where that is not known."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            entry: dict[str, Any] = json.loads(read_regular(self._file(program, image_id), at_most=_CACHED_BYTES))
            findings = tuple(ImageFinding(**finding) for finding in entry["findings"])
            scanned_at = datetime.fromisoformat(entry["scanned_at"])
            return ImageScanResult(image_id=image_id, program=program, scanned_at=scanned_at, findings=findings)
        return None

    def put(self, result: ImageScanResult) -> None:
        """Keep what was found; where it cannot be kept, the image is scanned again next time."""
        entry = {
            "scanned_at": result.scanned_at.isoformat(),
            "findings": [asdict(finding) for finding in result.findings],
        }
        with suppress(OSError):
            make_private_folder(self._folder)
            write_private(self._file(result.program, result.image_id), json.dumps(entry).encode())
            files = sorted(self._folder.glob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True)
            for file in files[_CACHED_FILES:]:
                file.unlink(missing_ok=True)

    def _file(self, program: str, image_id: str) -> Path:
        return self._folder / f"{program}-{image_id.removeprefix('sha256:')}.json"


def _words_of(text: str) -> str:
    """The scanner's own words: from its first error on, else its last line."""
    text = printable(text).strip()
    if match := _ERROR.search(text):
        return shorten(text[match.end() :], _LONGEST_ERROR)
    return shorten(text.splitlines()[-1], _LONGEST_ERROR) if text else "it said nothing"
