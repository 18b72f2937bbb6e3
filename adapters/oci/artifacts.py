"""Artifacts as commits of the local repository of a source, so that all that follows a fetch is as for git."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from adapters.git.failures import git_failure
from adapters.git.repository import KEPT, SourceRepository
from adapters.oci.registry import Registry
from adapters.oci.signature import signed_payloads
from core.deployment.artifact import Manifest, check_files, import_stream, names_digest, read_manifest
from models.failures import SourceError
from models.sources import GitSource, OciSource, SourceRevision

_MIB = 2**20
_MOST_SIGNATURES, _MOST_PAYLOAD_BYTES = 64, 64 * 1024


class ArtifactRepository(SourceRepository):
    """A repository in which the digest of each artifact is the tag of a commit with its files and its time."""

    def __init__(self, environment: str, source: OciSource, folder: Path) -> None:
        # Checkouts count in whole blocks, and git packs a file with a head.
        super().__init__(environment, GitSource(repository=str(folder), max_mib=source.max_mib + 1), folder, {})
        self._artifact = source

    def fetch(self) -> SourceRevision:
        """Fetch the artifact that the tag names, and return its digest; where asked, its signature is good.

        Raises:
            SourceUnreachableError: The registry did not answer.
            SourceError: The artifact cannot be had, holds no Compose files, or is not signed as it has to be.
        """
        self._prepare()
        source, (host, name, tag, wanted) = self._artifact, self._artifact.parts
        registry, tag = Registry(host, name), tag or ("" if wanted else "latest")
        content = registry.manifest(f"sha256:{wanted}" if wanted else tag)
        if content is None:
            raise SourceError(
                f"There is no artifact {source.oci}, or not for us;",
                advice="was it pushed, and under this name? Correct source.oci, or `docker login` to its registry.",
            )
        digest = sha256(content).hexdigest()
        if wanted and digest != wanted:
            raise SourceError(
                f"The registry gives another artifact than {source.oci}, one with digest {digest[:12]};",
                advice="ask who runs the registry: it is damaged, or it was tampered with.",
            )
        manifest = read_manifest(content, source.oci)
        check_files(manifest, source.oci)
        if (size := sum(layer.size for layer in manifest.layers)) > source.max_mib * _MIB:
            raise SourceError(
                f"Artifact {source.oci} has {-(-size // _MIB):,} MiB of files, and may have {source.max_mib:,};",
                advice="raise source.max_mib, or take large files out of it.",
            )
        if source.verify is not None:
            self._require_signature(registry, digest, source.verify.key)
        if not self.has(digest):
            self._import(registry, digest, manifest)
        return SourceRevision(revision=digest, ref=tag, subject=manifest.version)

    def follows(self, target: str, running: str) -> bool:
        """Whether a fetched artifact may take the place of the running one by itself; False where that is not here.

        One that was made earlier does not, such as one that a tag was moved back to.
        """
        if target == running or not self.has(running):
            return target == running
        new, old = (int(self._text("log", "-1", "--format=%ct", digest)) for digest in (target, running))
        return new >= old

    def _import(self, registry: Registry, digest: str, manifest: Manifest) -> None:
        """Make a commit of an artifact, and forget those that no checkout was made of."""
        blobs = {layer.digest: registry.blob(layer.digest, layer.size) for layer in manifest.layers}
        stream = import_stream(f"refs/tags/{digest}", manifest, blobs)
        result = self._program.run("fast-import", "--quiet", "--force", git_dir=self._git_dir, stdin=stream)
        if result.exit_code != 0:
            raise git_failure(f"import of artifact {digest[:12]} of {self._environment}", result)
        kept = set(self._text("for-each-ref", "--format=%(refname:lstrip=3)", KEPT).split())
        tags = set(self._text("for-each-ref", "--format=%(refname:lstrip=2)", "refs/tags").split())
        for name in tags - kept - {digest}:
            self._run("update-ref", "-d", f"refs/tags/{name}")
        self._run("gc", "--auto", "--quiet")

    def _require_signature(self, registry: Registry, digest: str, key_file: Path) -> None:
        content = registry.manifest(f"sha256-{digest}.sig")
        layers = (
            ()
            if content is None
            else read_manifest(content, f"the signature of {self._artifact.oci}").layers[-_MOST_SIGNATURES:]
        )
        signed = ((registry.blob(layer.digest, _MOST_PAYLOAD_BYTES), layer.signature) for layer in layers)
        if not any(names_digest(payload, digest) for payload in signed_payloads(key_file, signed)):
            raise SourceError(
                f"Artifact {digest[:12]} of {self._environment} is not signed by the key {key_file};",
                advice="sign it with cosign and this key (docs/how-to/deploy-from-git.md).",
            )
