"""Which functions and tests use a name of a module, through other modules too: a static view of imports and mentions.

Coverage cannot say which test needs a line that an import executes, like a constant or a field of a class: the first
import of a process executes it for all its tests.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """The body of a function or method; `owner` is the outermost class or function around it."""

    file: str
    owner: str
    name: str
    first: int
    last: int


@dataclass(slots=True)
class _Module:
    imported: dict[str, tuple[str, str]] = field(default_factory=dict)
    """What each imported name is: a module, and a name in it or "" for the module itself."""
    mentions: dict[str, list[Function | str]] = field(default_factory=lambda: defaultdict(list))
    """The functions, and the names defined by statements of the module, in which a name occurs."""
    functions: dict[str, list[Function]] = field(default_factory=lambda: defaultdict(list))


class Uses:
    """The mentions of names in the files of a tree."""

    def __init__(self, tree: Path, files: Iterable[str]) -> None:
        self._modules = {file: _Module() for file in files}
        self._importers: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        for file, module in self._modules.items():
            parsed = ast.parse((tree / file).read_bytes())
            module.imported = dict(_imports(parsed))
            self._add(file, parsed.body, None)
            for alias, target in module.imported.items():
                self._importers[target].append((file, alias))

    def of(self, file: str, names: Iterable[str]) -> Iterator[tuple[int, Function]]:
        """Yield what uses these names of a file, and over how many other definitions: the nearest first."""
        level, seen, given = [(file, name) for name in names], set[tuple[str, str]](), set[Function]()
        depth = 0
        while level:
            following: list[tuple[str, str]] = []
            for place in level:
                if place in seen:
                    continue
                seen.add(place)
                for function in self._functions_using(place, following):
                    if function not in given:
                        given.add(function)
                        yield depth, function
            level, depth = following, depth + 1

    def _functions_using(self, place: tuple[str, str], following: list[tuple[str, str]]) -> Iterator[Function]:
        file, name = place
        yield from self._modules[file].functions.get(name, ())
        for user, alias in self._aliases(file, name):
            if user != file and "." not in alias:
                following.append((user, alias))
            for found in self._modules[user].mentions.get(alias, ()):
                if isinstance(found, str):
                    following.append((user, found))
                    continue
                yield found
                # What code of the tests executes is not measured, so its helpers and fixtures lead to its tests.
                if user.startswith("tests/") and not found.name.startswith("test_"):
                    following.append((user, found.owner))

    def _aliases(self, file: str, name: str) -> Iterator[tuple[str, str]]:
        """The files that can mention a name of a file, and the name that it has there."""
        yield file, name
        module = _module_name(file)
        yield from self._importers.get((module, name), ())
        for user, alias in self._importers.get((module, ""), ()):
            yield user, f"{alias}.{name}"
        parent, _, last = module.rpartition(".")
        for user, alias in self._importers.get((parent, last), ()):
            yield user, f"{alias}.{name}"
        if file.endswith("conftest.py"):
            # Tests name its fixtures without importing them.
            folder = file.removesuffix("conftest.py")
            yield from ((user, name) for user in self._modules if user.startswith(folder) and user != file)

    def _add(self, file: str, body: list[ast.stmt], owner: str | None) -> None:
        module = self._modules[file]
        for node in body:
            match node:
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    last = node.end_lineno or node.lineno
                    function = Function(
                        file=file, owner=owner or node.name, name=node.name, first=node.body[0].lineno, last=last
                    )
                    module.functions[function.owner].append(function)
                    for name in _mentioned(node):
                        module.mentions[name].append(function)
                    parts: list[ast.AST | None] = [node.args, node.returns, *node.decorator_list]
                    self._define(file, (function.owner,), parts)
                case ast.ClassDef():
                    self._define(file, (owner or node.name,), [*node.bases, *node.keywords, *node.decorator_list])
                    self._add(file, node.body, owner or node.name)
                case ast.Import() | ast.ImportFrom():
                    pass
                case ast.If() | ast.For() | ast.While() | ast.Try() | ast.With():
                    for part in ast.iter_child_nodes(node):
                        self._add(file, [part] if isinstance(part, ast.stmt) else getattr(part, "body", []), owner)
                case _:
                    names = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
                    stored = {
                        one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)
                    }
                    self._define(file, (owner,) if owner else tuple(stored or names), [node])

    def _define(self, file: str, names: tuple[str, ...], parts: Iterable[ast.AST | None]) -> None:
        for part in filter(None, parts):
            for mentioned in _mentioned(part):
                self._modules[file].mentions[mentioned].extend(name for name in names if name != mentioned)


def _module_name(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _imports(parsed: ast.Module) -> Iterator[tuple[str, tuple[str, str]]]:
    for node in ast.walk(parsed):
        if isinstance(node, ast.Import):
            for one in node.names:
                yield one.asname or one.name, (one.name, "")
        elif isinstance(node, ast.ImportFrom) and node.module:
            for one in node.names:
                yield one.asname or one.name, (node.module, one.name)


def _mentioned(node: ast.AST) -> set[str]:
    """The names in a piece of code, also those of arguments, and dotted ones."""
    found = set()
    for one in ast.walk(node):
        match one:
            case ast.Name():
                found.add(one.id)
            case ast.arg():
                found.add(one.arg)
            case ast.Attribute():
                parts, inner = [one.attr], one.value
                while isinstance(inner, ast.Attribute):
                    parts.append(inner.attr)
                    inner = inner.value
                if isinstance(inner, ast.Name):
                    found.add(".".join([inner.id, *reversed(parts)]))
    return found
