"""Read the manifest of an OCI artifact that holds the Compose files of an environment, and its cosign signature."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from core.common.safe_text import printable
from core.common.stamps import moment_of
from models.failures import SourceError

_COMPOSE_FILE = "application/vnd.docker.compose.file+yaml"
_NAMES = ("com.docker.compose.file", "com.docker.compose.envfile", "org.opencontainers.image.title")
_CREATED, _VERSION = "org.opencontainers.image.created", "org.opencontainers.image.version"
_SIGNATURE, _UNPACKED = "dev.cosignproject.cosign/signature", "io.deis.oras.content.unpack"
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_MOST_FILES = 256
_LONGEST = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One blob: its digest without sha256:, its bytes, the path of its file and cosign's signature of it, or none."""

    digest: str
    size: int
    name: str
    is_compose_file: bool
    signature: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What the manifest of an artifact says; `created` is in seconds since 1970, 0 where it says no time."""

    layers: tuple[Layer, ...]
    created: int
    version: str


def read_manifest(content: bytes, what: str) -> Manifest:
    """Read the manifest of an artifact; `what` is its address, for messages.

    Raises:
        SourceError: It is none.
    """
    try:
        data = json.loads(content)
        layers, annotations = tuple(map(_layer, data["layers"])), _texts(data.get("annotations"))
        created = moment_of(annotations.get(_CREATED, ""))
        seconds = 0 if created is None else max(0, int(created.timestamp()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise _no_artifact(what, "its manifest has no layers, or is an index of several artifacts or images") from error
    return Manifest(layers=layers, created=seconds, version=printable(annotations.get(_VERSION, ""))[:_LONGEST])


def check_files(manifest: Manifest, what: str) -> None:
    """Check that every layer is a file with a path inside of the checkout; only Compose files may share one.

    Raises:
        SourceError: One is not.
    """
    if not 0 < len(manifest.layers) <= _MOST_FILES:
        raise _no_artifact(what, f"it has {len(manifest.layers)} files, and 1 to {_MOST_FILES} are allowed")
    seen: dict[PurePosixPath, bool] = {}
    for layer in manifest.layers:
        path = PurePosixPath(layer.name)
        if not layer.name:
            raise _no_artifact(what, f"layer {layer.digest[:12]} is no file with a name, but of an image or a folder")
        if path.is_absolute() or not path.parts or {"..", ".git"} & {*path.parts} or not layer.name.isprintable():
            raise SourceError(
                f"A file of artifact {what} has the name {layer.name[:80]!r}, which is no path inside of the checkout;",
                advice="publish it with a name without .. and that does not begin with /.",
            )
        if path in seen and not (seen[path] and layer.is_compose_file):
            raise _no_artifact(what, f"it has two files with the name {layer.name}")
        seen[path] = layer.is_compose_file
    if inside := next((path for path in seen for parent in path.parents if parent in seen), None):
        raise _no_artifact(what, f"{inside} is in a folder that is a file as well")


def import_stream(ref: str, manifest: Manifest, blobs: Mapping[str, bytes]) -> bytes:
    """Return what git fast-import makes a commit of an artifact of; `blobs` are by their digests.

    Compose files of the same name become documents of one file, as Compose reads them.
    """
    files: dict[str, bytes] = {}
    for layer in manifest.layers:
        path = str(PurePosixPath(layer.name)).replace("\\", r"\\").replace('"', r"\"")
        files[path] = b"\n---\n".join(filter(None, (files.get(path), blobs[layer.digest])))
    # Without its last word a stream is one that was cut off.
    head = f"feature done\ncommit {ref}\ncommitter roas <roas@localhost> {manifest.created} +0000\ndata 0\n"
    parts = (b'M 100644 inline "%s"\ndata %d\n%s\n' % (path.encode(), len(data), data) for path, data in files.items())
    return b"".join((head.encode(), *parts, b"done\n"))


def names_digest(payload: bytes, digest: str) -> bool:
    """Whether a payload that cosign signed is of the artifact with a digest."""
    try:
        return bool(json.loads(payload)["critical"]["image"]["docker-manifest-digest"] == f"sha256:{digest}")
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _layer(data: Any) -> Layer:
    found, size, annotations = _DIGEST.fullmatch(data["digest"]), data["size"], _texts(data.get("annotations"))
    if found is None or type(size) is not int or size < 0:
        raise ValueError("no digest of SHA-256, or no size")
    names = [annotations[key] for key in _NAMES if annotations.get(key) and annotations.get(_UNPACKED) != "true"]
    return Layer(
        digest=found[1],
        size=size,
        name=names[0] if names else "",
        is_compose_file=data.get("mediaType") == _COMPOSE_FILE,
        signature=annotations.get(_SIGNATURE, ""),
    )


def _texts(data: Any) -> dict[str, str]:
    return {key: value for key, value in (data or {}).items() if isinstance(value, str)}


def _no_artifact(what: str, why: str) -> SourceError:
    return SourceError(
        f"{what} is no artifact of Compose files: {why};",
        advice="push it with `docker compose publish`, or its files with `oras push`.",
    )
