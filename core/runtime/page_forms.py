"""Keys of the page's forms: each is for one action on one environment in one session, for a while."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class FormRequest:
    """What a form is made for. `csrf` is its session's token, which keys the form."""

    csrf: str
    action: str
    environment: str


def make_form_key(request: FormRequest, nonce: str, expires: float) -> str:
    """A form's key, valid until `expires` in seconds since the epoch; `nonce` is random and has no dot."""
    return f"{nonce}.{expires:.0f}.{_signature(request, nonce, f'{expires:.0f}')}"


def is_form_key(key: str, request: FormRequest, now: float) -> bool:
    """Whether a key was made for this request, and is still valid."""
    nonce, expires, signature = (*key.split(".", 2), "", "", "")[:3]
    if not (expires.isascii() and expires.isdigit() and signature.isascii()):
        return False
    return hmac.compare_digest(signature, _signature(request, nonce, expires)) and float(expires) > now


def _signature(request: FormRequest, nonce: str, expires: str) -> str:
    # No part can hold the separator: actions are ours, environments are names, and the rest is made here.
    text = "\n".join((request.action, request.environment, nonce, expires))
    return hmac.new(request.csrf.encode(), text.encode("utf-8", "surrogatepass"), sha256).hexdigest()
