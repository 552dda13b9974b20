"""HTTP routes of a function app: templates like `runs/{id}` matched against a path.

Pure. Understands `{name}`, `{name?}` (last segment), `{name:int}` and `{*rest}`, which may be
empty; other constraints are accepted and not checked. Where several routes match, the one with more
literal text wins, as in the service.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from local.functions_host.worker import Function

_PARAMETER = re.compile(r"\{(\*?)(\w+)(?::([^}?]+))?(\?)?\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    function: Function
    pattern: re.Pattern[str]
    literal_length: int
    methods: frozenset[str]
    auth_level: str

    def match(self, method: str, path: str) -> dict[str, str] | None:
        """The route's parameters if it takes this request."""
        found = self.pattern.fullmatch(path)
        if found is None or (self.methods and method not in self.methods):
            return None
        return {name: unquote(value) for name, value in found.groupdict().items() if value}


def route_of(function: Function, prefix: str) -> Route:
    """The route of an HTTP function below `routePrefix`; without one, the function's name."""
    trigger = function.trigger
    template = str(trigger.get("route") or function.name).strip("/")
    full = f"/{prefix}/{template}" if prefix else f"/{template}"
    return Route(
        function=function,
        pattern=compile_template(full),
        literal_length=len(_PARAMETER.sub("", full)),
        methods=frozenset(str(method).upper() for method in trigger.get("methods") or ()),
        auth_level=str(trigger.get("authLevel") or "function").lower(),
    )


def find_route(
    routes: Sequence[Route], method: str, path: str
) -> tuple[Route, Mapping[str, str]] | None:
    """The best route for a request, with its parameters."""
    matches = ((route, route.match(method, path.rstrip("/") or "/")) for route in routes)
    taken = [(route, params) for route, params in matches if params is not None]
    return max(taken, key=lambda item: item[0].literal_length, default=None)


def compile_template(template: str) -> re.Pattern[str]:
    """A regular expression for a route template; matching ignores case, as in the service."""
    pattern, end = "", 0
    for found in _PARAMETER.finditer(template):
        literal = re.escape(template[end : found.start()])
        catch_all, name, constraint, optional = found.groups()
        value = ".*" if catch_all else r"-?\d+" if constraint == "int" else "[^/]+"
        if optional or catch_all:
            pattern += f"{literal.removesuffix('/')}(?:/(?P<{name}>{value}))?"
        else:
            pattern += f"{literal}(?P<{name}>{value})"
        end = found.end()
    return re.compile(pattern + re.escape(template[end:]), re.IGNORECASE)
