"""A workspace in memory: rows by indicator, and what was asked."""

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from common.errors import PipelineError
from common.workspace import Row


@dataclass
class FakeWorkspace:
    """Answers the query of arrivals with the rows of the ids in it, or with a `trouble`."""

    rows: dict[str, Row] = field(default_factory=dict)
    trouble: PipelineError | None = None
    asked: list[list[str]] = field(default_factory=list)

    def query(self, text: str, *, span: timedelta) -> Sequence[Row]:
        found = re.search(r"base64_decode_tostring\('([^']*)'\)", text)
        assert found is not None
        ids: list[str] = json.loads(base64.b64decode(found[1]))
        self.asked.append(ids)
        if self.trouble is not None:
            raise self.trouble
        return [{"StixId": name, **self.rows[name]} for name in ids if name in self.rows]
