"""Check of webhook addresses: refuse link-local addresses, where clouds serve a machine's credentials."""

from __future__ import annotations

import ipaddress
import socket

from core.common.cloud_addresses import METADATA_NETWORKS

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# A network may translate by a prefix of its own from here, with the address at the end.
_OWN_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")


def is_refused(host: str) -> bool:
    """Whether a host is, or resolves to, a link-local address or a cloud's metadata service.

    The system resolves it, so decimal, hexadecimal and shortened forms are covered. A host that does not resolve is
    not refused: nothing can be sent to it.
    """
    try:
        addresses = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, ValueError):
        return False
    return any(_is_refused(str(address[0])) for *_, address in addresses)


def _is_refused(text: str) -> bool:
    address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and (address in _NAT64 or address in _OWN_NAT64 or int(address) >> 32 == 0):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        address = inner or address
    return any(address in network for network in METADATA_NETWORKS)
