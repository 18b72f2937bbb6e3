"""validate_sbom.py FILE ...: exit 1 at the first that is not CycloneDX 1.6 by its schema."""

from __future__ import annotations

import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

validator = JsonStrictValidator(SchemaVersion.V1_6)
for name in sys.argv[1:]:
    if error := validator.validate_str(Path(name).read_text()):
        sys.exit(f"{name}: {error}")
