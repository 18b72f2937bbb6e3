"""Manifests of artifacts: what is read of them, and what is refused in one line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.deployment.artifact import check_files, import_stream, names_digest, read_manifest
from models.failures import SourceError

DIGEST = "ab" * 32
LAYER: dict[str, Any] = {
    "mediaType": "application/vnd.docker.compose.file+yaml",
    "digest": f"sha256:{DIGEST}",
    "size": 3,
    "annotations": {"com.docker.compose.file": "compose.yaml"},
}


def manifest(*layers: dict[str, Any], **annotations: str) -> bytes:
    named = {f"org.opencontainers.image.{name}": value for name, value in annotations.items()}
    return json.dumps({"layers": layers, "annotations": named}).encode()


def test_a_manifest_says_files_time_and_version() -> None:
    found = read_manifest(manifest(LAYER, created="2026-03-04T12:00:00Z", version="1.0\x1b[2J"), "shop")

    check_files(found, "shop")

    assert [(layer.name, layer.digest, layer.size) for layer in found.layers] == [("compose.yaml", DIGEST, 3)]
    assert (found.created, found.version) == (1772625600, r"1.0\x1b[2J")


@pytest.mark.parametrize("created", ["", "soon", "1969-01-01T00:00:00Z"])
def test_what_is_no_time_is_the_earliest(created: str) -> None:
    assert read_manifest(manifest(LAYER, created=created), "shop").created == 0


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\xff", b"null", b"[]", b"{}", b"[" * 5000, b'{"layers": 1}', b'{"layers": [1]}', b'{"layers": [[]]}'),
        *(b'{"manifests": []}', manifest(LAYER | {"size": -1}), manifest(LAYER | {"size": True})),
        *(manifest(LAYER | {"digest": "sha512:00"}), manifest(LAYER | {"digest": f"sha256:{'A' * 64}"})),
        *(manifest(LAYER | {"digest": None}), manifest(LAYER | {"annotations": [1]})),
        manifest(LAYER, created="0001-01-01T00:00:00+14:00"),
    ],
)
def test_what_is_no_manifest_is_refused_in_one_line(content: bytes) -> None:
    with pytest.raises(SourceError, match="shop is no artifact of Compose files: its manifest has no layers"):
        read_manifest(content, "shop")


def test_too_many_files_and_none_are_refused() -> None:
    for count in (0, 257):
        with pytest.raises(SourceError, match=f"it has {count} files, and 1 to 256 are allowed;"):
            check_files(read_manifest(manifest(*[LAYER] * count), "shop"), "shop")


def test_a_stream_holds_compose_files_of_one_name_as_documents() -> None:
    stream = import_stream("refs/tags/x", read_manifest(manifest(LAYER, LAYER), "shop"), {DIGEST: b"a: 1"})

    assert b'M 100644 inline "compose.yaml"\ndata 13\na: 1\n---\na: 1\n' in stream
    assert stream.endswith(b"\ndone\n")


@pytest.mark.parametrize(
    ("payload", "names"),
    [
        ({"critical": {"image": {"docker-manifest-digest": f"sha256:{DIGEST}"}}}, True),
        ({"critical": {"image": {"docker-manifest-digest": DIGEST}}}, False),
        ({"critical": []}, False),
        ([], False),
        (None, False),
    ],
)
def test_only_a_payload_with_the_digest_counts(payload: Any, names: bool) -> None:
    assert names_digest(json.dumps(payload).encode(), DIGEST) is names
