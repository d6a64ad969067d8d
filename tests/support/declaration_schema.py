"""Write the JSON Schema of declarations anew: `python -m tests.support.declaration_schema`."""

from __future__ import annotations

from pathlib import Path

from gateway.declarations import schema

if __name__ == "__main__":
    place = Path(schema.__file__).with_name(schema.NAME)
    place.write_text(schema.schema_text(), encoding="utf-8")
