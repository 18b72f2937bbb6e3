"""Who listens on a port of the loopback."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable

import pytest

from adapters.host.listeners import _read_proc, listening_users

WAYS: list[Callable[[int], Iterable[int]]] = [listening_users, _read_proc]
"""As the kernel answers, and as its files say where it does not."""


def listening(address: str, family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    made = socket.socket(family)
    made.bind((address, 0))
    made.listen()
    return made


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("address", "family"),
    [("127.0.0.1", socket.AF_INET), ("", socket.AF_INET), ("::1", socket.AF_INET6), ("::", socket.AF_INET6)],
)
def test_a_listener_of_this_user_is_found(
    way: Callable[[int], Iterable[int]], address: str, family: socket.AddressFamily
) -> None:
    with listening(address, family) as made:
        assert set(way(made.getsockname()[1])) == {os.geteuid()}


@pytest.mark.parametrize("way", WAYS)
def test_a_listener_at_another_address_is_not_reached(way: Callable[[int], Iterable[int]]) -> None:
    with listening("127.0.0.2") as made:
        assert not set(way(made.getsockname()[1]))


@pytest.mark.parametrize("way", WAYS)
def test_a_socket_that_does_not_listen_is_none(way: Callable[[int], Iterable[int]]) -> None:
    with listening("127.0.0.1") as made, socket.create_connection(made.getsockname()) as connected:
        assert not set(way(connected.getsockname()[1]))
