"""Artifacts of Compose files in a registry on loopback, as `docker compose publish`, `oras` and cosign push them."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.ports import free_port
from tests.support.registry import Registry

COMPOSE_FILE = "application/vnd.docker.compose.file+yaml"
ENV_FILE = "application/vnd.docker.compose.envfile"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_NAMED = {COMPOSE_FILE: "com.docker.compose.file", ENV_FILE: "com.docker.compose.envfile"}


class SigningKey:
    """A key of cosign."""

    def __init__(self, file: Path) -> None:
        self._key, self.file = generate_private_key(SECP256R1()), file
        file.write_bytes(self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    def sign(self, payload: bytes) -> str:
        """The signature as cosign writes it."""
        return b64encode(self._key.sign(payload, ECDSA(SHA256()))).decode()


@dataclass(slots=True, kw_only=True)
class ArtifactPlace:
    """One repository of a registry."""

    registry: Registry
    name: str = "ann/shop"
    login: tuple[str, str] | None = None
    published: int = field(default=0)

    @property
    def address(self) -> str:
        """What `source.oci` says."""
        return f"localhost:{self.registry.port}/{self.name}"

    def publish(self, files: dict[str, str], tag: str = "latest", **manifest: Any) -> str:
        """Push files as `docker compose publish` does; the digest without sha256:."""
        kinds = {name: COMPOSE_FILE if name.endswith(".yaml") else ENV_FILE for name in files}
        return self.push(
            tag, [(text.encode(), kinds[name], {_NAMED[kinds[name]]: name}) for name, text in files.items()], **manifest
        )

    def push(self, tag: str, layers: list[tuple[bytes, str, dict[str, str]]], **manifest: Any) -> str:
        """Push a manifest with these layers; the digest without sha256:."""
        self.published += 1
        described = [
            {"mediaType": kind, "digest": self.blob(content), "size": len(content), "annotations": annotations}
            for content, kind, annotations in layers
        ]
        config = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": self.blob(b"{}"), "size": 2}
        said = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": "application/vnd.docker.compose.project",
            "config": config,
            "layers": described,
            "annotations": {"org.opencontainers.image.created": f"2026-03-04T12:{self.published:02}:00Z"},
        }
        return self.put_manifest(tag, said | manifest)

    def put_manifest(self, tag: str, manifest: dict[str, Any]) -> str:
        """Push a manifest; its digest without sha256:."""
        content = json.dumps(manifest).encode()
        self._request("PUT", f"manifests/{tag}", content=content, headers={"content-type": manifest["mediaType"]})
        return sha256(content).hexdigest()

    def move(self, tag: str, digest: str) -> None:
        """Let a tag name another artifact."""
        content = self._request("GET", f"manifests/sha256:{digest}", headers={"accept": MANIFEST}).content
        self._request("PUT", f"manifests/{tag}", content=content, headers={"content-type": MANIFEST})

    def sign(self, digest: str, key: SigningKey, names: str = "") -> None:
        """Sign an artifact as cosign does; `names` is another digest for the payload."""
        payload = json.dumps(
            {
                "critical": {
                    "identity": {"docker-reference": self.address},
                    "image": {"docker-manifest-digest": f"sha256:{names or digest}"},
                    "type": "cosign container image signature",
                },
                "optional": None,
            }
        ).encode()
        annotations = {"dev.cosignproject.cosign/signature": key.sign(payload)}
        kind = "application/vnd.dev.cosign.simplesigning.v1+json"
        self.push(f"sha256-{digest}.sig", [(payload, kind, annotations)])

    def blob(self, content: bytes) -> str:
        """Push a blob; its digest."""
        digest = f"sha256:{sha256(content).hexdigest()}"
        begun = self._request("POST", "blobs/uploads/")
        where = httpx.URL(begun.headers["location"]).copy_merge_params({"digest": digest})
        httpx.put(where, content=content, auth=self.login).raise_for_status()
        return digest

    def _request(self, method: str, path: str, **request: Any) -> httpx.Response:
        address = f"http://localhost:{self.registry.port}/v2/{self.name}/{path}"
        return httpx.request(method, address, auth=self.login, **request).raise_for_status()


@contextmanager
def artifact_registry(folder: Path) -> Iterator[ArtifactPlace]:
    """A registry that runs meanwhile, without images."""
    folder.mkdir()
    made = Registry(folder=folder, port=free_port())
    made.start()
    try:
        yield ArtifactPlace(registry=made)
    finally:
        made.stop()


@dataclass(slots=True, kw_only=True)
class TokenFront:
    """A registry that wants a token from a server of its own, and lets another server give out its blobs.

    `seen` are the kinds of logins that it got, `fails` the status codes that it answers with first, and `location` is
    where it says that blobs are.
    """

    address: str = ""
    realm: str = ""
    location: str = ""
    seen: list[str] = field(default_factory=list)
    fails: list[int] = field(default_factory=list)


@contextmanager
def token_front(shop: ArtifactPlace, user: str, password: str) -> Iterator[TokenFront]:
    """Such a registry before another one, on loopback."""
    made, token, behind = TokenFront(), "t0ken-for-pulls", f"http://127.0.0.1:{shop.registry.port}"
    basic = f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"

    class FrontHandler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("Authorization", "")
            made.seen.append(f"{given.partition(' ')[0] or 'nothing'} at {self.path.partition('?')[0].split('/')[1]}")
            if made.fails:
                self._answer(made.fails.pop(0), {"Location": made.location or f"{behind}{self.path}"}, b"x" * 4096)
            elif self.path.startswith("/token?"):
                assert "repository%3Aann%2Fshop%3Apull" in self.path
                self._answer(200 if given == basic else 401, {}, json.dumps({"token": token}).encode())
            elif given != f"Bearer {token}":
                self._answer(401, {"WWW-Authenticate": f'Bearer realm="{made.realm}",service="front"'})
            elif "/blobs/" in self.path:
                self._answer(307, {"Location": made.location or f"{behind}{self.path}"}, b"x" * 4096)
            else:
                answer = httpx.get(f"{behind}{self.path}", headers={"accept": self.headers["Accept"]})
                self._answer(answer.status_code, {}, answer.content)

        def do_POST(self) -> None:
            given = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            made.seen.append(f"{given['grant_type'][0]} at {self.path[1:]}")
            is_good = given["refresh_token"] == [password] and given["scope"] == [f"repository:{shop.name}:pull"]
            self._answer(200 if is_good else 401, {}, json.dumps({"access_token": token}).encode())

        def _answer(self, status: int, headers: dict[str, str], content: bytes = b"") -> None:
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), FrontHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made.address, made.realm = (
            f"localhost:{server.server_port}/{shop.name}",
            f"http://localhost:{server.server_port}/token",
        )
        try:
            yield made
        finally:
            server.shutdown()
