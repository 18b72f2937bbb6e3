"""No webhook leads to the metadata service of a cloud, however its address is written."""

from __future__ import annotations

import pytest

from adapters.config.webhook_addresses import is_refused


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.0.1",
        "2852039166",
        "0xa9fea9fe",
        "0xa9.0xfe.0xa9.0xfe",
        "0251.0376.0251.0376",
        "169.254.43518",
        "fe80::1",
        "[fe80::1]",
        "fe80::1%lo",
        "::ffff:169.254.169.254",
        "::ffff:a9fe:a9fe",
        "::169.254.169.254",
        "64:ff9b::169.254.169.254",
        "2002:a9fe:a9fe::1",
        "fd00:ec2::254",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "fd20:ce::254",
        "fd00:c1::a9fe:a9fe",
        "fd00:42::42",
        "64:ff9b:1::a9fe:a9fe",
    ],
)
def test_an_address_of_the_link_is_refused_in_every_form(host: str) -> None:
    assert is_refused(host)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "::1", "10.0.0.1", "192.168.1.1", "203.0.113.9", "", "a" * 300]
)
def test_loopback_private_and_public_addresses_are_not(host: str) -> None:
    assert not is_refused(host)
