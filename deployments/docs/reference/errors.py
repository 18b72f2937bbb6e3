"""The page of error categories: meaning, what is done about them, and the heading of the runbook."""

from __future__ import annotations

import re
from collections import Counter

from deployments.docs.reference.markdown import code, page, summary, table


def errors_page() -> str:
    """Every category with its meaning, the strategies of its patterns, and the runbook's heading."""
    from adapters.pattern_files import shipped_patterns
    from core.notifications.words import WORDS
    from core.recovery.actions import ACTIONS
    from core.recovery.facts import REQUIRED_FACTS
    from core.reporting.postmortem import RUNBOOK_HEADINGS
    from models.errors import Category, Severity

    strategies: dict[Category, Counter[str]] = {category: Counter() for category in Category}
    for pattern in shipped_patterns():
        strategies[pattern.category][str(pattern.strategy)] += 1
    rows = [
        (
            f'<span id="{category}"></span>{code(category)}',
            f"{WORDS[category][0][0].upper()}{WORDS[category][0][1:]}. {WORDS[category][1]}",
            ", ".join(code(name) for name, _ in strategies[category].most_common()),
            _runbook(RUNBOOK_HEADINGS.get(category)),
        )
        for category in Category
    ]
    actions = [
        (code(strategy), ", ".join(map(str, action.steps)), REQUIRED_FACTS[strategy].fact, str(action.points))
        for strategy, action in ACTIONS.items()
    ]
    return page(
        "Errors",
        "An error gets one category by its text and by what the engine shows. The category's patterns propose a "
        "strategy; a strategy whose name ends with `(manual)` opens a ticket and does nothing else.",
        table(("category", "meaning", "proposed strategies", "runbook"), rows),
        "## Strategies that act",
        "A text only proposes a strategy: each needs its fact, read from the engine at that moment. Points count "
        "against the budgets of the service and the host.",
        table(("strategy", "steps", "allowed if", "points"), actions),
        "## Severities",
        "\n".join(f"- {meaning.strip().rstrip('.')}" for meaning in summary(Severity).split(";")),
    )


def _runbook(heading: str | None) -> str:
    if heading is None:
        return ""
    anchor = re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")
    return f"[{heading}](../runbook.md#{anchor})"
