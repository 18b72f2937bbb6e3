"""Where a file of Python can be changed so that its tests should notice: one small change each, line numbers kept.

Not changed: docstrings, annotations, `__all__`, imports, calls of the log, code under `if TYPE_CHECKING`, names of
types (`Literal`, `TypeVar`), and `frozen`, `slots` and `kw_only` of dataclasses.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"), ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="), ast.Is: ("is", "is not"), ast.IsNot: ("is not", "is"), ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}  # fmt: skip
_NEGATED_BY_COMPARISON = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)
_ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"), ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"), ast.Pow: ("**", "*"), ast.BitAnd: ("&", "|"), ast.BitOr: ("|", "&"), ast.BitXor: ("^", "|"),
    ast.LShift: ("<<", ">>"), ast.RShift: (">>", "<<"),
}  # fmt: skip
_LOGS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
_OF_TYPES = {"Literal", "TypeVar", "ParamSpec", "NewType", "cast"}
_OF_DATACLASSES = {"frozen", "slots", "kw_only"}
_TYPE = re.compile(r"(\w+\.)*([A-Z]\w*[a-z]\w*|str|int|float|bool|bytes|list|dict|tuple|set)(\[.*\])?", re.DOTALL)
_QUOTE = re.compile(rb"[a-zA-Z]*(?:\"\"\"|'''|\"|')")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The statement of a mutant: its lines, and the names through which a test uses it where an import executes it."""

    first: int
    last: int
    names: tuple[str, ...]
    at_import: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One change: the bytes from `start` to `end` of a file become `after`."""

    file: str
    kind: str
    line: int
    start: int
    end: int
    before: str
    after: str
    scope: Scope

    @property
    def id(self) -> str:
        """A name that stays the same while the file does."""
        return f"{self.file}:{self.start}-{self.end}:{self.kind}:{self.after.strip()}"

    def applied(self, source: bytes) -> bytes:
        """The changed file. Raises SyntaxError where it is no Python, ValueError where it means the same."""
        changed = source[: self.start] + self.after.encode() + source[self.end :]
        if ast.dump(ast.parse(changed)) == ast.dump(ast.parse(source)):
            raise ValueError("the change changes nothing")
        return changed


def mutants_of(file: str, source: bytes) -> list[Mutant]:
    """Every change of a file, in the order of its text. Some may be no Python: `applied` says so."""
    finder = _Finder(file, source)
    finder.block(ast.parse(source).body, None, inside=False)
    return sorted(finder.found, key=lambda mutant: (mutant.start, mutant.end, mutant.kind))


class _Finder:
    def __init__(self, file: str, source: bytes) -> None:
        self.found: list[Mutant] = []
        self._file = file
        self._source = source
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))

    def _start(self, node: ast.expr | ast.stmt) -> int:
        return self._lines[node.lineno - 1] + node.col_offset

    def _end(self, node: ast.expr | ast.stmt) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._lines[node.end_lineno - 1] + node.end_col_offset

    def _text(self, node: ast.expr | ast.stmt) -> bytes:
        return self._source[self._start(node) : self._end(node)]

    def _add(self, kind: str, start: int, end: int, after: str, scope: Scope) -> None:
        before = self._source[start:end].decode()
        # Lines below must keep their numbers.
        after += "\n" * (before.count("\n") - after.count("\n"))
        line = self._source.count(b"\n", 0, start) + 1
        self.found.append(
            Mutant(file=self._file, kind=kind, line=line, start=start, end=end, before=before, after=after, scope=scope)
        )

    def _replace(self, kind: str, node: ast.expr | ast.stmt, after: str, scope: Scope) -> None:
        self._add(kind, self._start(node), self._end(node), after, scope)

    def _swap(self, kind: str, left: ast.expr, right: ast.expr, words: tuple[str, str], scope: Scope) -> None:
        """Swap the operator between two expressions."""
        start, end = self._end(left), self._start(right)
        between = re.sub(rb"#[^\n]*", lambda comment: b" " * len(comment[0]), self._source[start:end])
        operator = rb"(?<!\w)" + rb"\s+".join(map(re.escape, words[0].encode().split())) + rb"(?!\w)"
        if match := re.search(operator if words[0][0].isalpha() else re.escape(words[0].encode()), between):
            self._add(kind, start + match.start(), start + match.end(), words[1], scope)

    def block(self, body: list[ast.stmt], owner: str | None, *, inside: bool) -> None:
        """Visit statements; `owner` is the outermost class or function around them, `inside` a body of a function."""
        for statement in body:
            self._statement(statement, owner, inside)

    def _statement(self, node: ast.stmt, owner: str | None, inside: bool) -> None:
        def visit(*parts: ast.AST | None) -> None:
            for part in filter(None, parts):
                self._expression(part, scope)

        assert node.end_lineno is not None
        names = (owner,) if owner else _names(node)
        blocks = [block for name in ("body", "orelse", "finalbody") if (block := getattr(node, name, None))]
        decorators = getattr(node, "decorator_list", [])
        first = min([node.lineno, *(one.lineno for one in decorators)])
        last = max(node.lineno, blocks[0][0].lineno - 1) if blocks else node.end_lineno
        scope = Scope(first=first, last=last, names=names, at_import=not inside)
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                visit(*decorators)
                for default in [*node.args.defaults, *filter(None, node.args.kw_defaults)]:
                    if not isinstance(default, ast.Constant):
                        self._replace("default", default, "None", scope)
                    visit(default)
                self.block(node.body, owner or node.name, inside=True)
            case ast.ClassDef():
                visit(*decorators, *node.bases, *node.keywords)
                self.block(node.body, owner or node.name, inside=inside)
            case ast.If() if "TYPE_CHECKING" in ast.unparse(node.test):
                self.block(node.orelse, owner, inside=inside)
            case ast.Import() | ast.ImportFrom():
                pass
            case ast.Assign() if any(isinstance(one, ast.Name) and one.id == "__all__" for one in node.targets):
                pass
            case ast.Expr(value=ast.Constant()):
                pass
            case ast.AnnAssign():
                visit(node.value)
            case ast.Match():
                visit(node.subject)
                for one in node.cases:
                    line = one.pattern.lineno
                    last = max(line, one.body[0].lineno - 1)
                    scope = Scope(first=line, last=last, names=names, at_import=not inside)
                    visit(one.pattern, one.guard)
                    self.block(one.body, owner, inside=inside)
            case _:
                self._simple(node, scope)
                visit(*(part for part in ast.iter_child_nodes(node) if not isinstance(part, ast.stmt)))
                for block in [*blocks, *(handler.body for handler in getattr(node, "handlers", []))]:
                    self.block(block, owner, inside=inside)

    def _simple(self, node: ast.stmt, scope: Scope) -> None:
        match node:
            case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
                self._replace("return", value, "None", scope)
            case ast.Expr(value=ast.Call() | ast.Await() as value) if not _is_log(value):
                self._replace("call", node, "pass", scope)
            case ast.If():
                self._condition(node.test, scope)
            case ast.Break():
                self._replace("loop", node, "continue", scope)
            case ast.Continue():
                self._replace("loop", node, "break", scope)
            case ast.AugAssign() if type(node.op) in _ARITHMETIC:
                self._swap("arithmetic", node.target, node.value, _ARITHMETIC[type(node.op)], scope)

    def _condition(self, test: ast.expr, scope: Scope) -> None:
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            return
        if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], _NEGATED_BY_COMPARISON):
            return
        self._replace("condition", test, f"not ({self._text(test).decode()})", scope)

    def _expression(self, node: ast.AST, scope: Scope) -> None:
        match node:
            case ast.ExceptHandler():
                if node.type is not None:
                    self._expression(node.type, scope)
                return
            case ast.Constant():
                self._constant(node, scope)
            case ast.JoinedStr():
                self._string(node, scope)
                for part in node.values:
                    if isinstance(part, ast.FormattedValue) and self._is_in_place(part.value):
                        self._expression(part.value, scope)
                return
            case ast.Call() if _is_log(node):
                return
            case ast.Call(func=ast.Name(id=name)) | ast.Subscript(value=ast.Name(id=name)) if name in _OF_TYPES:
                for argument in getattr(node, "args", [])[1:]:
                    self._expression(argument, scope)
                return
            case ast.Call(func=ast.Name(id="dataclass")):
                for keyword in node.keywords:
                    if keyword.arg not in _OF_DATACLASSES:
                        self._expression(keyword.value, scope)
                return
            case ast.Compare():
                for left, operator, right in zip(
                    [node.left, *node.comparators], node.ops, node.comparators, strict=False
                ):
                    self._swap("comparison", left, right, _COMPARISONS[type(operator)], scope)
            case ast.BoolOp():
                words = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
                for left, right in zip(node.values, node.values[1:], strict=False):
                    self._swap("boolean", left, right, words, scope)
            case ast.UnaryOp(op=ast.Not()):
                self._add("not", self._start(node), self._start(node) + len("not"), "", scope)
            case ast.BinOp() if type(node.op) in _ARITHMETIC and not _is_type(node):
                self._swap("arithmetic", node.left, node.right, _ARITHMETIC[type(node.op)], scope)
            case ast.IfExp():
                self._condition(node.test, scope)
            case ast.Slice():
                for bound in filter(None, (node.lower, node.upper)):
                    self._replace("slice", bound, "", scope)
            case ast.Lambda():
                for default in filter(None, [*node.args.defaults, *node.args.kw_defaults]):
                    self._expression(default, scope)
                self._expression(node.body, scope)
                return
        for part in ast.iter_child_nodes(node):
            self._expression(part, scope)

    def _constant(self, node: ast.Constant, scope: Scope) -> None:
        match node.value:
            case bool():
                self._replace("constant", node, str(not node.value), scope)
            case int() | float():
                self._replace("constant", node, repr(node.value + 1), scope)
            case str() | bytes():
                self._string(node, scope)

    def _string(self, node: ast.Constant | ast.JoinedStr, scope: Scope) -> None:
        if quote := _QUOTE.match(self._text(node)):
            start, end = self._start(node), self._end(node)
            after = quote[0] + b"XX" + self._source[start + quote.end() : end]
            self._add("constant", start, end, after.decode(), scope)

    def _is_in_place(self, node: ast.expr) -> bool:
        """Report whether Python 3.11 gives the right place of an expression in an f-string: not always."""
        try:
            return ast.dump(ast.parse(b"(" + self._text(node) + b")", mode="eval").body) == ast.dump(node)
        except (SyntaxError, IndexError):
            return False


def _is_log(node: ast.expr) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="log" | "logger"), attr=name)):
            return name in _LOGS
    return False


def _is_type(node: ast.BinOp) -> bool:
    """Report whether an expression is a union of types, like `str | None`."""
    if not isinstance(node.op, ast.BitOr):
        return False
    sides = (node.left, node.right)
    return any(isinstance(one, ast.Constant) and one.value is None for one in sides) or all(
        _TYPE.fullmatch(text) for text in ast.unparse(node).split(" | ")
    )


def _names(node: ast.stmt) -> tuple[str, ...]:
    """The names that a statement of a module defines, or else those that it mentions."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return (node.name,)
    names = [one for one in ast.walk(node) if isinstance(one, ast.Name)]
    stored = [one.id for one in names if isinstance(one.ctx, ast.Store)]
    return tuple(dict.fromkeys(stored or [one.id for one in names]))


def valid(mutants: list[Mutant], source_of: Callable[[str], bytes]) -> Iterator[Mutant]:
    """Those that are Python and change what it means."""
    for mutant in mutants:
        try:
            mutant.applied(source_of(mutant.file))
        except (SyntaxError, ValueError):
            continue
        yield mutant
