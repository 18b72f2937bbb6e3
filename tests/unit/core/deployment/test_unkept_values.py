"""What a release names and does not hold: its values are those of now where it is applied."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from core.deployment.release import differences, held_out, replace_secrets, variable_files
from models.records import Release

WRITTEN: dict[str, dict[str, Any]] = {
    "services": {
        "app": {
            "environment": {"PASSWORD": "of-the-database", "GREETING": "hello", "TOKEN": "${TOKEN}"},
            "env_file": [{"path": "/srv/shop.env", "required": True}],
        },
        "db": {"command": ["serve", "--password", "of-the-database"], "env_file": "/srv/db.env"},
    }
}
REDACTED = {
    "services": {
        "app": WRITTEN["services"]["app"] | {"environment": {"PASSWORD": "***", "GREETING": "hello", "TOKEN": "***"}},
        "db": WRITTEN["services"]["db"] | {"command": ["serve", "--password", "***"]},
    }
}
RELEASE = Release(
    release_id="r-1", environment="shop", deployment_id="d-1", created_at=datetime(2026, 11, 29, tzinfo=UTC)
)


def test_a_release_says_where_it_holds_no_value_and_which_files_have_more() -> None:
    kept = replace_secrets(WRITTEN, REDACTED)

    assert list(held_out(kept)) == ["services.app.environment.PASSWORD", "services.db.command.2"]
    assert variable_files(kept) == ("/srv/db.env", "/srv/shop.env")


def test_a_value_of_no_variable_counts_as_changed_only_where_both_releases_know_it() -> None:
    password, file = "services.app.environment.PASSWORD", "/srv/shop.env"
    first = replace(RELEASE, variables={"TOKEN": "1", password: "1", file: "1"})
    other = replace(RELEASE, variables={"TOKEN": "2", password: "2", file: "2"})
    earlier = replace(RELEASE, variables={"TOKEN": "1"})

    assert differences(first, other) == (
        "file of variables /srv/shop.env changed", "variable TOKEN changed", f"{password} changed"
    )  # fmt: skip
    assert differences(earlier, first) == differences(first, earlier) == ()
