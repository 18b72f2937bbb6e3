"""Check the syntax of expressions in CEL. Readers of environment files import this, so it imports nothing by itself."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=256)
def syntax_mistake(expression: str) -> str | None:
    """What is wrong with the syntax of an expression, with its position; None where nothing is."""
    # 0.2 s that only environments with such a policy pay.
    import celpy
    from celpy.celparser import CELParseError

    try:
        celpy.Environment().compile(expression)
    except CELParseError as error:
        if error.line is None or error.column is None or error.line < 1:
            return "the expression ends too early"
        return f"line {error.line}, column {error.column} is not CEL: {_position(expression, error.line, error.column)}"
    except RecursionError:
        return "the expression is nested too deeply"
    return None


def _position(expression: str, line: int, column: int) -> str:
    lines = expression.splitlines()[line - 1 : line]
    text = lines[0][column - 1 :] if lines else ""
    return f"{text[:40]!r}" if text.strip() else "something is missing there"
