"""`roas` commands about error patterns: classify an error, list and change patterns."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import completers
from cli.options import as_json, input_lines
from cli.run_flow import opened_stores, show_answer
from flows.common.terminal import echo, echo_json
from models.errors import Category, Pattern, Severity, Strategy, UnnamedGroup, Verdict
from models.failures import BadInputError
from models.settings import current_settings

if TYPE_CHECKING:
    from core.errors.match import PatternSet


@click.command()
@click.argument("text", required=False)
@as_json
def classify(text: str | None, json_wanted: bool) -> None:
    """Classify the cause of an error: TEXT, or JSON lines {"id","text"} on standard input.

    A text alone allows no action: the answer says which fact the proposed one would need.
    """
    from core.errors.classify import classify as classify_error

    pattern_set = _patterns_in_use()
    if text is not None:
        _show(text, classify_error(text, pattern_set), json_wanted)
        return
    for number, line in enumerate(input_lines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            # JSON can contain half a surrogate pair, which is not text.
            identifier, message = row["id"], str(row["text"]).encode("utf-8", "replace").decode()
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise BadInputError(
                f"Line {number} of standard input is not a JSON object with id and text;",
                advice='each line looks like {"id": "1", "text": "bind: address already in use"}.',
            ) from error
        echo_json({"id": identifier, **_answer(classify_error(message, pattern_set))})


@click.group()
def patterns() -> None:
    """Manage the patterns that classify errors."""


@patterns.command("list")
@click.option("--mine", is_flag=True, help="Only those that users added.")
@click.option(
    "--category", type=click.Choice([str(category) for category in Category]), help="Only those of one cause."
)
@as_json
def list_patterns(mine: bool, category: str | None, json_wanted: bool) -> None:
    """List patterns with their number of matches."""
    from cli.rendering.results import show_patterns

    selection = [pattern for pattern in _known_patterns() if category in (None, pattern.category)]
    show_answer([pattern for pattern in selection if not (mine and pattern.shipped)], json_wanted, show_patterns)


@patterns.command("show")
@click.argument("name")
@as_json
def show_pattern(name: str, json_wanted: bool) -> None:
    """Show one pattern: expression, meaning, last match."""
    from cli.rendering.results import show_pattern as render

    show_answer(_pattern(name), json_wanted, render)


@patterns.command("unknown")
@click.option("--env", "environment", help="Only of this environment.", shell_complete=completers.environments)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000), help="How many groups.")
@as_json
def list_unknown(environment: str | None, limit: int, json_wanted: bool) -> None:
    """List errors that match no pattern, grouped by text; `patterns add --from` adds one for a group."""
    from cli.rendering.results import show_unnamed

    groups = _unnamed_groups(environment)
    show_answer(groups[:limit], json_wanted, lambda shown: show_unnamed(shown, len(groups)))


@patterns.command("add")
@click.argument("name")
@click.argument("regex", required=False)
@click.option("--from", "group", metavar="GROUP", help="Take the expression that `patterns unknown` proposes.")
@click.option("--category", required=True, type=click.Choice([str(category) for category in Category]))
@click.option(
    "--severity", default="medium", show_default=True, type=click.Choice([str(severity) for severity in Severity])
)
@click.option(
    "--strategy",
    default="investigate(manual)",
    show_default=True,
    type=click.Choice([str(strategy) for strategy in Strategy]),
)
@click.option("--priority", default=60, show_default=True, type=click.IntRange(0, 100), help="Higher is tried first.")
@click.option("--script", metavar="PATH", help="What run_script runs: a file in deployments/recovery.")
@click.option("--replace", is_flag=True, help="Replace the pattern of this name.")
def add_pattern(
    name: str,
    regex: str | None,
    group: str | None,
    category: str,
    severity: str,
    strategy: str,
    priority: int,
    script: str | None,
    replace: bool,
) -> None:
    """Add a pattern with REGEX (RE2 syntax), which may match no known harmless line."""
    from adapters.pattern_files import harmless_lines
    from core.errors.match import check_pattern

    if (regex is None) == (group is None):
        raise BadInputError("Give an expression, or --from with a group that `roas patterns unknown` shows.")
    if (strategy == Strategy.RUN_SCRIPT) != (script is not None):
        raise BadInputError("--script goes with --strategy run_script, and only with it.")
    pattern = Pattern(
        name=name,
        regex=regex if regex is not None else _proposal(str(group)),
        category=Category(category),
        severity=Severity(severity),
        strategy=Strategy(strategy),
        priority=priority,
        shipped=False,
        recovery_script=script,
    )
    existing_pattern = next((candidate for candidate in _known_patterns() if candidate.name == name), None)
    if existing_pattern is not None and not replace:
        whose = "shipped" if existing_pattern.shipped else "a user's"
        raise BadInputError(f"There is a pattern {name} already, {whose};", advice="give another name, or --replace.")
    mistakes = check_pattern(pattern, harmless_lines())
    if mistakes:
        raise BadInputError(f"Pattern {name} cannot be added.", advice=" ".join(mistakes))
    opened_stores().patterns.put(pattern)
    echo(f"{name} is added: {category}, {strategy}")
    named = _reclassify_open_errors(pattern)
    if named:
        echo(f"{named} open {'error was' if named == 1 else 'errors were'} classified again by it")


@patterns.command("test")
@click.argument("text")
@as_json
def test_patterns(text: str, json_wanted: bool) -> None:
    """Classify TEXT with all patterns, including those of users."""
    from adapters.pattern_files import compile_patterns
    from core.errors.classify import classify as classify_error

    _show(text, classify_error(text, compile_patterns(_known_patterns())), json_wanted)


@patterns.command("disable")
@click.argument("name")
def disable_pattern(name: str) -> None:
    """Disable a pattern; an upgrade keeps it disabled."""
    opened_stores().patterns.put(dataclasses.replace(_pattern(name), enabled=False))
    echo(f"{name} is disabled")


@patterns.command("enable")
@click.argument("name")
def enable_pattern(name: str) -> None:
    """Enable a pattern."""
    opened_stores().patterns.put(dataclasses.replace(_pattern(name), enabled=True))
    echo(f"{name} is enabled")


@patterns.command("remove")
@click.argument("name")
def remove_pattern(name: str) -> None:
    """Remove a pattern that a user added."""
    from adapters.pattern_files import shipped_patterns
    from adapters.shipped_version import shipped_version

    if _pattern(name).shipped:
        raise BadInputError(f"{name} is a shipped pattern;", advice=f"`roas patterns disable {name}` switches it off.")
    stores = opened_stores()
    stores.patterns.remove(name)
    # It may have stood in the place of a shipped one.
    stores.patterns.renew(shipped_patterns(), shipped_version())
    echo(f"{name} is removed")


@patterns.command("lint")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def lint_file(file: Path) -> None:
    """Check a FILE of patterns: each needs a meaning, a source, 3 examples that match and 2 that do not."""
    from adapters.pattern_files import harmless_lines, read_file
    from core.errors.pattern_files import lint_patterns

    described = read_file(file)
    mistakes = lint_patterns(described, harmless_lines())
    if mistakes:
        raise BadInputError(f"{file} has {len(mistakes)} mistakes.", advice="\n".join(mistakes))
    echo(f"{file}: {len(described)} patterns, no mistake")


@patterns.command("coverage")
@as_json
def show_coverage(json_wanted: bool) -> None:
    """List the shipped patterns that decide none of their own examples, and count the others."""
    from adapters.pattern_files import described_patterns, shipped_set
    from core.errors.classify import classify as classify_error
    from core.errors.pattern_files import never_deciding

    described, pattern_set = described_patterns(), shipped_set()
    never = never_deciding(described, lambda text: classify_error(text, pattern_set))
    if json_wanted:
        echo_json({"patterns": len(described), "never_deciding": list(never)}, indent=2)
        return
    examples = sum(len(pattern.match) + len(pattern.no_match) for pattern in described)
    echo(f"{len(described)} patterns with {examples} examples; {len(never)} decide none of their own examples")
    for name in never:
        echo(name)


def _show(text: str, verdict: Verdict, json_wanted: bool) -> None:
    if json_wanted:
        echo_json(_answer(verdict), indent=2)
        return
    from cli.rendering.results import show_verdict

    show_verdict(text, verdict)


def _answer(verdict: Verdict) -> dict[str, Any]:
    from core.recovery.facts import would_need

    return {**dataclasses.asdict(verdict), "auto_recoverable": False, "would_need": would_need(verdict.strategy)}


def _patterns_in_use() -> PatternSet:
    """The patterns of errors.db if it exists, otherwise the shipped ones: classification creates no store."""
    from adapters.pattern_files import compile_patterns, shipped_set

    settings = current_settings()
    if settings.stores_url is None and not settings.store_path("errors").exists():
        return shipped_set()
    return compile_patterns(_known_patterns())


def _known_patterns() -> list[Pattern]:
    return opened_stores().patterns.all()


def _pattern(name: str) -> Pattern:
    pattern = next((candidate for candidate in _known_patterns() if candidate.name == name), None)
    if pattern is None:
        raise BadInputError(f"There is no pattern {name};", advice="roas patterns list shows them all.")
    return pattern


def _unnamed_groups(environment: str | None) -> tuple[UnnamedGroup, ...]:
    from core.errors.templates import unnamed_groups
    from tasks.runtime.stores import stores_exist

    return unnamed_groups(opened_stores().errors.list_unclassified(environment)) if stores_exist() else ()


def _proposal(group: str) -> str:
    error_group = next((candidate for candidate in _unnamed_groups(None) if candidate.group == group), None)
    if error_group is None:
        raise BadInputError(f"There is no group {group};", advice="roas patterns unknown shows them all.")
    if error_group.expression is None:
        raise BadInputError(
            f"The text of group {group} is too general: {error_group.template};", advice="write an expression yourself."
        )
    return error_group.expression


def _reclassify_open_errors(pattern: Pattern) -> int:
    """Classify open errors without a pattern again; the number that this pattern matches."""
    from adapters.pattern_files import compile_patterns
    from core.errors.classify import classify as classify_error

    stores = opened_stores()
    pattern_set = compile_patterns(stores.patterns.all())
    named = 0
    for error in stores.errors.list_unclassified():
        if error.resolved_at is not None:
            continue
        verdict = classify_error(error.text, pattern_set)
        named += verdict.pattern_name == pattern.name and stores.errors.reclassify(error.error_id, verdict)
    return named
