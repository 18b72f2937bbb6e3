from __future__ import annotations

from core.notifications.words import ticket_title
from models.errors import Category


def test_a_ticket_is_titled_with_what_failed_in_words_and_the_category_to_search_for() -> None:
    title = ticket_title(Category.AUTH_FAILED, "web", "it needs a repair by hand")
    assert title == "web: a login was refused (auth_failed). It needs a repair by hand"
    assert ticket_title(Category.DISK_FULL, "db", "prune_disk may not be done").endswith(". prune_disk may not be done")
