"""Rows as CSV, safe to open in a spreadsheet."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet would compute
(owasp.org/www-community/attacks/CSV_Injection, read 2026-11-29)."""


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows of the same names as CSV with a header; nothing where there is no row. Pure.

    Nested values are JSON. A cell that a spreadsheet would take for a formula begins with an
    apostrophe.
    """
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _harmless(_flat(value)) for name, value in row.items()})
    return text.getvalue()


def _flat(value: object) -> str:
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    return "" if value is None else str(value)


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
