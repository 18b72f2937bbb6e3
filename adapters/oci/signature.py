"""Signatures that cosign makes with a key: ECDSA P-256 over the payload of a signature's layer."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from adapters.host.private_files import read_regular
from models.failures import SourceError


def signed_payloads(key_file: Path, signed: Iterable[tuple[bytes, str]]) -> list[bytes]:
    """Return the payloads whose signature, in base64, is of the owner of a public key, as cosign.pub has it.

    Raises:
        SourceError: The key cannot be read, or is none of ECDSA P-256.
    """
    # Only a source with `verify` needs it, and it takes a while to import.
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = None
    with suppress(OSError, ValueError, UnsupportedAlgorithm):
        key = load_pem_public_key(read_regular(key_file))
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise SourceError(
            f"{key_file} is no public key of ECDSA P-256 that this user may read;",
            advice="correct source.verify.key: the file cosign.pub of `cosign generate-key-pair`.",
        )
    payloads = []
    for payload, signature in signed:
        with suppress(InvalidSignature, ValueError):
            key.verify(b64decode(signature, validate=True), payload, ECDSA(SHA256()))
            payloads.append(payload)
    return payloads
