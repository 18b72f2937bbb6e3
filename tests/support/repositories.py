"""Git repositories that a test commits to, and servers that offer them."""

from __future__ import annotations

import base64
import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from tests.support.certificates import self_signed
from tests.support.ports import free_port

_BACKEND = "/usr/lib/git-core/git-http-backend"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A bare repository, and the working copy from which a test pushes to it."""

    bare: Path
    copy: Path

    def git(self, *arguments: str, folder: Path | None = None) -> str:
        """Run git in the working copy; what it printed."""
        who = ["-c", "user.name=Ann", "-c", "user.email=ann@shop.example", "-c", "init.defaultBranch=main"]
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.copy.parent), "GIT_CONFIG_NOSYSTEM": "1"}
        done = subprocess.run(
            ["git", "-C", str(folder or self.copy), *who, *arguments],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def write(self, files: dict[str, str]) -> None:
        """Write files into the working copy."""
        for name, text in files.items():
            path = self.copy / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def commit(self, subject: str, files: dict[str, str] | None = None, *options: str) -> str:
        """Commit files and push; the revision."""
        self.write(files or {})
        self.git("add", "-A")
        self.git("commit", "--allow-empty", "-q", "-m", subject, *options)
        self.push()
        return self.git("rev-parse", "HEAD")

    def push(self, *what: str) -> None:
        """Push the branch, or what is named."""
        self.git("push", "-q", "--force", "origin", *(what or ("HEAD",)))


def new_repository(folder: Path, name: str = "shop") -> Origin:
    """A repository with no commit yet."""
    made = Origin(bare=folder / f"{name}.git", copy=folder / f"{name}-copy")
    made.bare.mkdir(parents=True)
    made.copy.mkdir()
    made.git("init", "-q", "--bare", "-b", "main", folder=made.bare)
    made.git("init", "-q", "-b", "main")
    made.git("remote", "add", "origin", str(made.bare))
    return made


@dataclass(slots=True, kw_only=True)
class GitServer:
    """Offers the repositories of a folder over https to clients that have the token."""

    url: str
    certificate: Path
    token: str
    seen: list[str] = field(default_factory=list)
    """The paths that were asked for, with their queries."""
    moved_to: str = ""
    broken: bool = False


@contextmanager
def https_repositories(folder: Path, token: str = "t0ken-of-the-repository") -> Iterator[GitServer]:
    """A server of the folder's repositories on localhost: git's own backend behind TLS and a password."""
    port, own = free_port(), folder / "tls"
    own.mkdir()
    certificate = self_signed(own, name="localhost", also_named=True)
    server = GitServer(url=f"https://localhost:{port}", certificate=certificate, token=token)

    class Handler(_GitHandler):
        state = server
        root = folder

    listening = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listening.socket = context.wrap_socket(listening.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()


class _GitHandler(BaseHTTPRequestHandler):
    state: ClassVar[GitServer]
    root: ClassVar[Path]

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def _answer(self, body: bytes) -> None:
        state, parts = self.state, urlsplit(self.path)
        state.seen.append(self.path)
        given = self.headers.get("Authorization", "").removeprefix("Basic ")
        _, _, password = base64.b64decode(given).decode().partition(":")
        if state.broken:
            self._send(503, [], b"")
        elif state.moved_to:
            self._send(301, [("Location", f"{state.moved_to}{self.path}")], b"")
        elif password != state.token:
            self._send(401, [("WWW-Authenticate", 'Basic realm="git"')], b"")
        else:
            self._backend(parts.path, parts.query, body)

    def _backend(self, path: str, query: str, body: bytes) -> None:
        environ = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "REMOTE_ADDR": "127.0.0.1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
        }
        done = subprocess.run([_BACKEND], input=body, env=environ, capture_output=True, check=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = [tuple(line.split(": ", 1)) for line in head.decode().split("\r\n")]
        status = next((int(value.split()[0]) for name, value in headers if name == "Status"), 200)
        self._send(status, [(name, value) for name, value in headers if name != "Status"], content)

    def _send(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it is called by
        """Print nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SshServer:
    """An sshd on loopback that lets one key in, as this user."""

    port: int
    key: Path
    known_hosts: Path

    def address(self, repository: Origin) -> str:
        """The address of a repository there."""
        user = (
            os.environ.get("USER") or subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout
        )
        return f"ssh://{user.strip()}@127.0.0.1:{self.port}{repository.bare}"


def new_key(path: Path, comment: str = "ann@shop.example") -> Path:
    """A new key pair for ssh or for signatures; the private file."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


def sshd() -> str | None:
    """The program of the ssh server."""
    return shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")


@contextmanager
def ssh_server(folder: Path) -> Iterator[SshServer]:
    """Debian's sshd on loopback meanwhile."""
    program = sshd()
    assert program is not None
    folder.mkdir(mode=0o700)
    host, user, port = new_key(folder / "host"), new_key(folder / "user"), free_port()
    (folder / "authorized").write_text((folder / "user.pub").read_text())
    known = folder / "known_hosts"
    kind, key, _ = (folder / "host.pub").read_text().split()
    known.write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
    settings = folder / "sshd_config"
    settings.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {host}\nAuthorizedKeysFile {folder / 'authorized'}\n"
        f"PidFile {folder / 'pid'}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "-D", "-e", "-f", str(settings)], stderr=log)
    try:
        import socket

        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                threading.Event().wait(0.05)
        yield SshServer(port=port, key=user, known_hosts=known)
    finally:
        process.terminate()
        process.wait()
