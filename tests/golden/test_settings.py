"""Variables: those of the program with type and default, and all others that are named ROAS_ anywhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from models.settings import Settings
from tests.golden.conftest import golden

ROOT = Path(__file__).parents[2]
NAME = re.compile(r"ROAS_[A-Z0-9_]*[A-Z0-9](?![A-Z0-9_])")
WITH_DEFAULT = re.compile(r"\$\{(ROAS_[A-Z0-9_]+):?-((?:[^${}]|\$\{[^}]*\})*)\}")


def test_settings_with_type_and_default() -> None:
    schema = Settings.model_json_schema()["properties"]
    lines = []
    for name, field in sorted(Settings.model_fields.items()):
        limits = {
            key: schema[name][key]
            for key in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
            if key in schema[name]
        }
        bounds = "".join(f", {key} {value}" for key, value in limits.items())
        kind_name = getattr(field.annotation, "__name__", "") if "|" not in str(field.annotation) else ""
        lines += [
            f"ROAS_{name.upper()}  {kind_name or field.annotation}, default {field.default!s}{bounds}".replace(
                "pathlib.", ""
            ),
            f"    {field.description}",
        ]

    golden("settings.txt", "\n".join(lines))


def test_names_of_all_variables() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    names: dict[str, set[str]] = {f"ROAS_{name.upper()}": set() for name in Settings.model_fields}
    for file in listed:
        path = ROOT / file
        if file.startswith(("tests/", "benchmarks/", "docs/")) or file.endswith(".md") or not path.is_file():
            continue
        text = path.read_text(errors="ignore")
        for name in NAME.findall(text):
            names.setdefault(name, set())
        for name, default in WITH_DEFAULT.findall(text) if path.suffix in (".yml", ".yaml") else ():
            names.setdefault(name, set()).add(default)

    lines = [f"{name}  {' | '.join(sorted(one for one in names[name] if one))}".rstrip() for name in sorted(names)]
    golden("variables.txt", "\n".join(lines))
