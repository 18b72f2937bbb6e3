"""Addresses at which clouds serve a machine's credentials and configuration."""

from __future__ import annotations

import ipaddress

METADATA_NETWORKS = tuple(
    ipaddress.ip_network(network)
    for network in (
        "169.254.0.0/16",
        "fe80::/10",
        # Not on the link: AWS, Google, Oracle and Scaleway over IPv6, Alibaba, Azure's wire server, Oracle.
        "fd00:ec2::/32",
        "fd20:ce::/64",
        "fd00:c1::/64",
        "fd00:42::/64",
        "100.100.100.200/32",
        "168.63.129.16/32",
        "192.0.0.192/32",
    )
)
