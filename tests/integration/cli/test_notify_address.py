"""`roas notify add` keeps no address that leads to a cloud's metadata service, and starts nothing to say so."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from cli.main import roas
from models.failures import BadInputError


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://169.254.169.254/latest/meta-data", "link-local"),
        ("http://2852039166/", "link-local"),
        ("http://[fe80::1]/", "link-local"),
        ("http://[::1", "not an address"),
    ],
)
def test_an_address_of_the_link_is_refused_when_it_is_added(address: str, said: str) -> None:
    done = CliRunner().invoke(roas, ["notify", "add", "webhook", "x"], input=address)
    assert isinstance(done.exception, BadInputError)
    assert said in str(done.exception)
    assert address not in str(done.exception)
