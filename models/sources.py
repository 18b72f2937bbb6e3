"""Sources: where an environment's files come from, which revision of them is there, and what a sync decided."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from models.fields import FilePath, Strict, Text

SOURCE_KEY = "x-roas-source"
"""The extension field of a release's Compose document that holds its revision; Compose ignores it."""

_ARTIFACT = re.compile(
    r"((?=localhost[:/]|[^/]*[.:])[A-Za-z0-9][A-Za-z0-9.-]*(?::\d{1,5})?)"
    r"/([a-z0-9]+(?:(?:[._-]+|/)[a-z0-9]+)*)"
    r"(?::(\w[\w.-]{0,127}))?(?:@sha256:([0-9a-f]{64}))?\Z",
    re.ASCII,
)
_SCP_LIKE = re.compile(r"(?:[^/@:\s]+@)?[^/:\s]+:[^/].*")


def is_ssh(repository: str) -> bool:
    """Whether an address is reached over ssh: ssh://USER@HOST/PATH or USER@HOST:PATH."""
    return repository.startswith("ssh://") or ("://" not in repository and _SCP_LIKE.fullmatch(repository) is not None)


def is_local(repository: str) -> bool:
    """Whether an address is a folder of this machine: an absolute path or file://."""
    return repository.startswith(("/", "file:///"))


def _usable_repository(address: str) -> str:
    if address.startswith("-") or not address.isprintable() or " " in address:
        raise ValueError("this is not the address of a repository")
    if is_local(address) or is_ssh(address):
        return address
    parts = urlsplit(address)
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError("allowed are https://HOST/PATH, ssh://USER@HOST/PATH, USER@HOST:PATH and absolute paths")
    if "@" in parts.netloc:
        raise ValueError("an address holds no user and no password: use token_secret")
    return address


def _usable_ref(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_*?][A-Za-z0-9._/*?+@-]*", name) or ".." in name or "@{" in name:
        raise ValueError("this is not the name of a branch or tag")
    return name


def _without_way_out(path: Path) -> Path:
    if path.is_absolute() or ".." in path.parts:
        raise ValueError("a path inside of the repository has no .. and does not begin with /")
    return path


def _usable_api(address: str) -> str:
    if not re.fullmatch(r"https?://[^\s<>|()\[\]\"'`\\@]+", address):
        raise ValueError("an address that begins with https:// is allowed, without a user")
    return address.rstrip("/")


def _not_often(seconds: int) -> int:
    if 0 < seconds < _OFTEN_SECONDS:
        raise ValueError(f"this is 0 or at least {_OFTEN_SECONDS}")
    return seconds


def _usable_artifact(address: str) -> str:
    if _ARTIFACT.match(address) is None:
        raise ValueError("allowed are REGISTRY/NAME, REGISTRY/NAME:TAG, and either with @sha256:DIGEST")
    return address


_OFTEN_SECONDS = 30
_CHECKS = "How often `roas serve` syncs by itself; 0: only where it is asked to."
_Interval = Annotated[int, Field(ge=0, le=86400, description=_CHECKS), AfterValidator(_not_often)]
_Ref = Annotated[Text, AfterValidator(_usable_ref)]


class GitSource(Strict):
    """A git repository that an environment's Compose files come from."""

    repository: Annotated[Text, AfterValidator(_usable_repository)] = Field(
        description="https://HOST/PATH, ssh://USER@HOST/PATH, USER@HOST:PATH, or the absolute path of a folder."
    )
    branch: _Ref | None = Field(default=None, description="The branch to follow; without branch and tag it is main.")
    tag: _Ref | None = Field(
        default=None, description="In place of a branch: a tag, or a pattern such as v1.*, whose newest version counts."
    )
    path: Annotated[FilePath, AfterValidator(_without_way_out)] = Field(
        default=Path(), description="Folder inside of the repository that compose_files and env_files start from."
    )
    token_secret: str | None = Field(
        default=None, description="Name of a secret of this environment: the token or password for an https address."
    )
    token_user: Text = Field(default="oauth2", description="User that goes with the token.")
    ssh_key: FilePath | None = Field(default=None, description="Private key file for an ssh address; it has no phrase.")
    known_hosts: FilePath | None = Field(
        default=None, description="Host keys that an ssh address may have; by default ~/.ssh/known_hosts."
    )
    verify: Literal["none", "signed"] = Field(
        default="none", description="signed: only commits or tags signed by a key of allowed_signers or gpg_keys."
    )
    allowed_signers: FilePath | None = Field(
        default=None, description="Keys that may sign, in the format of ssh-keygen(1), ALLOWED SIGNERS."
    )
    gpg_keys: FilePath | None = Field(default=None, description="GPG public keys that may sign; needs gpg installed.")
    status: Literal["none", "github", "gitlab", "gitea"] = Field(
        default="none", description="Report the result as a status of the commit to this kind of server."
    )
    status_token_secret: str | None = Field(
        default=None, description="Name of a secret of this environment: the token that may write statuses."
    )
    status_project: Text | None = Field(
        default=None, description="OWNER/NAME on that server; by default the path of the repository's address."
    )
    api: Annotated[Text, AfterValidator(_usable_api)] | None = Field(
        default=None, description="Base address of that server's API; by default that of the repository's host."
    )
    webhook_secret: str | None = Field(
        default=None, description="Name of a secret of this environment: with it pushes may ask for a sync."
    )
    max_mib: int = Field(
        default=1024, ge=1, le=1024 * 1024, description="Largest checkout, and largest transfer of a fetch, in MiB."
    )
    check_every_seconds: _Interval = 0

    @model_validator(mode="after")
    def _fields_that_go_together(self) -> GitSource:
        if self.branch is not None and self.tag is not None:
            raise ValueError("give branch or tag, not both")
        if self.branch is not None and any(wildcard in self.branch for wildcard in "*?"):
            raise ValueError("only tag takes a pattern")
        if self.token_secret is not None and not self.repository.startswith("https://"):
            raise ValueError("token_secret needs an https address")
        if (self.ssh_key or self.known_hosts) and not is_ssh(self.repository):
            raise ValueError("ssh_key and known_hosts need an ssh address")
        if self.verify == "signed" and self.allowed_signers is None and self.gpg_keys is None:
            raise ValueError("verify: signed needs allowed_signers or gpg_keys")
        if self.status != "none":
            if self.status_token_secret is None:
                raise ValueError("status needs status_token_secret")
            if is_local(self.repository) and (self.api is None or self.status_project is None):
                raise ValueError("status of a repository in a folder needs api and status_project")
        return self

    @property
    def follows(self) -> str:
        """What a sync follows, in words: the branch, or the tag or pattern of tags."""
        return f"tag {self.tag}" if self.tag is not None else f"branch {self.branch or 'main'}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets that are for the source alone; no Compose file gets them."""
        named = (self.token_secret, self.status_token_secret, self.webhook_secret)
        return tuple(name for name in named if name is not None)


class SignatureKey(Strict):
    """How an artifact has to be signed."""

    key: FilePath = Field(description="Public key (ECDSA P-256, PEM) whose owner has to have signed it with cosign.")


class OciSource(Strict):
    """An OCI artifact that an environment's Compose files come from, as `docker compose publish` pushes it."""

    path: ClassVar = Path()
    tag: ClassVar = None
    secrets: ClassVar[tuple[str, ...]] = ()
    webhook_secret: ClassVar = None
    status: ClassVar = "none"

    oci: Annotated[Text, AfterValidator(_usable_artifact)] = Field(
        description="REGISTRY/NAME, with :TAG to follow (by default latest) or @sha256:DIGEST to stay at."
    )
    verify: SignatureKey | None = Field(default=None, description="Only an artifact with a signature is taken.")
    max_mib: int = Field(default=16, ge=1, le=256, description="Most that its files may have, in MiB.")
    check_every_seconds: _Interval = 0

    @property
    def repository(self) -> str:
        """Where it is, as a message shows it."""
        return self.oci

    @property
    def parts(self) -> tuple[str, str, str, str]:
        """Registry, name, tag and digest (without sha256:) of its address; tag and digest may be empty."""
        ((host, name, tag, digest),) = _ARTIFACT.findall(self.oci)
        return host, name, tag, digest


def _kind_of(declared: Any) -> str:
    return "oci" if isinstance(declared, OciSource) or (isinstance(declared, dict) and "oci" in declared) else "git"


Source = Annotated[Annotated[GitSource, Tag("git")] | Annotated[OciSource, Tag("oci")], Discriminator(_kind_of)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRevision:
    """One commit of a source, or the digest of an artifact, without sha256:.

    `ref` is the branch or tag that named it, `subject` the first line of its message, or the artifact's version.
    """

    revision: str
    ref: str = ""
    subject: str = ""

    @property
    def brief(self) -> str:
        """The first 12 digits."""
        return self.revision[:12]

    def __str__(self) -> str:
        """As a message shows it."""
        details = ", ".join(filter(None, (self.ref, self.subject and f'"{self.subject}"')))
        return f"{self.brief} ({details})" if details else self.brief


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A rollback that later syncs respect: they stay at `revision`, empty where the release had none."""

    revision: str
    by: str
    at: datetime
    deployment_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedRevision:
    """A revision whose update failed. It is taken again only while `attempts` are few and no service had failed."""

    reason: str
    deployment_id: str
    at: datetime
    attempts: int = 1
    held_back: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitStatus:
    """The result of a sync as the repository's server shows it beside the commit."""

    revision: str
    state: Literal["pending", "success", "failure"]
    description: str
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """What is known of an environment's source on this machine.

    `known` are the revisions that were checked out, `left` is when the checkout last left a revision. `tag_revisions`
    are the commits that tags named when they were taken. `unreported` is a result that the server has not got yet,
    `unfetched` why the last sync could not fetch or not take what it found, empty where it could.
    """

    known: dict[str, SourceRevision] = field(default_factory=dict)
    left: dict[str, datetime] = field(default_factory=dict)
    tag_revisions: dict[str, str] = field(default_factory=dict)
    failed: dict[str, FailedRevision] = field(default_factory=dict)
    pin: Pin | None = None
    unreported: CommitStatus | None = None
    unfetched: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedSource:
    """What a fetch found: the revision to which the branch or tag refers now.

    `follows_running` is False where the running revision is no ancestor of it; of a tag, where it is an ancestor of the
    running revision, or the tag named another commit before.
    `changed_files` are files of the checkout that differ from its revision.
    """

    target: SourceRevision
    follows_running: bool = True
    changed_files: tuple[str, ...] = ()
