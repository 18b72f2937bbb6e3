"""A repository of restic that opens at once, for tests whose subject is not the making of one.

restic derives the key of a repository from its password so slowly that guessing does not pay: 0.4 s of processor at
each call, and 1.5 s where it makes one. This one was made by restic too, and only its key is derived with less work.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305

PASSWORD = "a password"

_CACHE = Path(__file__).parents[2] / ".pytest_cache"
_LITTLE_WORK = {"N": 2, "r": 1, "p": 1}
_NONCE = _MAC = 16
"""Bytes of a nonce, and of what Poly1305 gives."""


def copy_repository(folder: Path) -> None:
    """Put an empty repository with PASSWORD into a folder that does not exist, as private as restic makes it."""
    _CACHE.mkdir(exist_ok=True)
    version = subprocess.run(["restic", "version"], check=True, capture_output=True, text=True).stdout.split()[1]
    template = _CACHE / f"restic-{version}"
    with (_CACHE / "restic.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.exists():
            with tempfile.TemporaryDirectory(prefix="restic-", dir=_CACHE) as scratch:
                made = Path(scratch) / "repository"
                words = ["restic", "--no-cache", "--repo", str(made), "--insecure-no-password", "init", "--quiet"]
                subprocess.run(words, check=True, capture_output=True)
                _derive_with_little_work(made)
                made.rename(template)
    shutil.copytree(template, folder)


def _derive_with_little_work(repository: Path) -> None:
    """Encrypt the master key anew, for PASSWORD: the format is that of restic's document on its design."""
    [file] = (repository / "keys").iterdir()
    key = json.loads(file.read_text())
    master = _opened(base64.b64decode(key["data"]), _derived("", key))
    salt = secrets.token_bytes(64)
    cheap = key | _LITTLE_WORK | {"salt": base64.b64encode(salt).decode()}
    cheap["data"] = base64.b64encode(_sealed(master, _derived(PASSWORD, cheap))).decode()
    content = json.dumps(cheap).encode()
    file.unlink()
    written = file.with_name(hashlib.sha256(content).hexdigest())
    written.write_bytes(content)
    written.chmod(0o400)


def _derived(password: str, key: dict[str, object]) -> bytes:
    salt = base64.b64decode(str(key["salt"]))
    n, r, p = (int(str(key[name])) for name in ("N", "r", "p"))
    # OpenSSL needs the most memory: 128 * N * r bytes, and some more.
    most = 256 * n * r * p + (1 << 20)
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, dklen=32 + 16 + 16, maxmem=most)


def _opened(sealed: bytes, key: bytes) -> bytes:
    nonce, hidden, mac = sealed[:_NONCE], sealed[_NONCE:-_MAC], sealed[-_MAC:]
    _authenticator(key, nonce, hidden).verify(mac)
    return _through_cipher(key, nonce, hidden)


def _sealed(plain: bytes, key: bytes) -> bytes:
    nonce = secrets.token_bytes(_NONCE)
    hidden = _through_cipher(key, nonce, plain)
    return nonce + hidden + _authenticator(key, nonce, hidden).finalize()


def _through_cipher(key: bytes, nonce: bytes, data: bytes) -> bytes:
    return Cipher(algorithms.AES(key[:32]), modes.CTR(nonce)).encryptor().update(data)


def _authenticator(key: bytes, nonce: bytes, hidden: bytes) -> Poly1305:
    """Poly1305-AES: the nonce goes through AES, and the result is added at the end."""
    block = Cipher(algorithms.AES(key[32:48]), modes.ECB()).encryptor().update(nonce)
    one = Poly1305(key[48:64] + block)
    one.update(hidden)
    return one
