"""Cut a page that no parser accepts whole into its objects: one bad object costs one object.

A scan finds the end of each object. It keeps open brackets on a stack of its own, so nesting may
have any depth. Each object is then parsed alone, by the parser that also parses whole pages, so its
verdict does not depend on its neighbours. Not obvious: an open quote or a missing bracket may hide
the end of an object. Such an object ends where the next one begins: complete braces with a `type`
and an `id`. A page that ends too early is never accepted as whole. This module must not know what
makes an indicator valid.
"""

import json
import math
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

import msgspec

NESTED_TOO_DEEPLY: Final = "is nested too deeply"
BEYOND_64_BITS: Final = "holds a number beyond 64 bits"

decode_strictly: Final[Callable[[bytes], Any]] = msgspec.json.Decoder().decode
"""Return the value of any JSON text. Integers of any size stay exact, so that the caller can reject
the ones that receivers cannot read. Raises what `NOT_JSON` names."""

NOT_JSON: Final = (msgspec.MsgspecError, ValueError, RecursionError)

_PLACE: Final = ("results", "stixobjects")
"""Where the objects are in Lumen's answer."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An object of a page that is not JSON: its bytes as they came, and what is wrong."""

    content: bytes
    reason: str


class _BrokenError(ValueError):
    """The text stops being JSON at some place, or ends too early."""


def cut_answer(content: bytes) -> dict[str, Any] | None:
    """Return Lumen's answer with the objects of its page, each decoded or `Unreadable`.

    None when it has no page, or when the page ends too early.
    """
    try:
        start = _start_of_objects(content)
    except _BrokenError:
        return None
    pieces = _Pieces(content, start)
    spans = list(pieces)
    tail = content[pieces.end :]
    is_whole = pieces.end and (pieces.is_certain or b'"next_token"' in tail)
    answer = _envelope(content[:start], tail) if is_whole else None
    if answer is not None:
        answer[_PLACE[0]][_PLACE[1]] = [decode_object(content[slice(*span)]) for span in spans]
    return answer


def has_page(answer: object) -> bool:
    """Whether an answer has a list of objects."""
    results = answer.get(_PLACE[0]) if isinstance(answer, dict) else None
    return isinstance(results, dict) and isinstance(results.get(_PLACE[1]), list)


def decode_object(content: bytes) -> Any:
    """Return the value of one object's JSON, or an `Unreadable`."""
    try:
        return decode_strictly(content)
    except NOT_JSON as error:
        return Unreadable(content, _reason(content, error))


def decode_loosely(content: bytes) -> Any:
    """Return the value of a JSON text whose strings and numbers may be odd; raises `NOT_JSON`.

    For the text around the objects; each value that is used is checked by its user.
    """
    return json.loads(content.decode("utf-8-sig", "surrogateescape"), strict=False)


class _Pieces:
    """The spans of the objects of a page, from the bracket at `start` on; iterate once.

    Afterwards `end` is behind the bracket that closes the list, or 0 if none was found. If the last
    object is damaged, that bracket is searched from the end of the page, and `is_certain` is False.
    """

    def __init__(self, content: bytes, start: int) -> None:
        self._content = content
        self._at = start
        self._work = _LEAST_WORK + _MAX_WORK * len(content)
        self._list_ends: list[int] | None = None
        self.end = 0
        self.is_certain = True

    def __iter__(self) -> Iterator[tuple[int, int]]:
        content = self._content
        while token := _TOKEN(content, self._at):
            if token[0].endswith(b","):
                self._at = token.end()
            elif token[0].endswith(b"]") and self._closes_page(token.end()):
                self.end = token.end()
                return
            else:
                begin = token.end() - len(token[0].lstrip())
                self._at = self._end_of(begin)
                yield begin, self._at
                if not self.is_certain:
                    return

    def _end_of(self, begin: int) -> int:
        """Return where the object at `begin` ends, damaged or not."""
        content = self._content
        try:
            end = self._scan(begin)
        except _BrokenError:
            end = 0
        if end and self._is_separated(end):
            # An object without its last brackets swallows those of the page, and the objects before
            # them.
            takes_more = _IS_MEMBER(content, end) and 0 < self._end_of_list(begin) < end
            if not takes_more:
                return end
        end = self._next_object(begin)
        if end:
            return end
        self.is_certain = False
        end = self._end_of_list(begin)
        self.end = end + 1 if end else 0
        return end or len(content)

    def _is_separated(self, end: int) -> bool:
        """Whether the text behind the object's end may follow an object."""
        found = _SEPARATOR(self._content, end)
        if found is None:
            return False
        return found["bracket"] is None or self._closes_page(found.end())

    def _closes_page(self, at: int) -> bool:
        """Whether the bracket before `at` closes the list, and count the work."""
        if self._work < 0:
            return at - 1 in self._ends_of_list()
        end = _end_of_page(self._content, at)
        self._work -= end - at
        return _IS_BLANK(self._content, end) is not None and _closes_page(self._content, at)

    def _next_object(self, begin: int) -> int:
        """Return where the damaged object at `begin` ends: at the next one; 0 if there is none."""
        for found in _NEXT(self._content, begin + 1):
            at = found.start("brace")
            try:
                behind = self._scan(at)
            except _BrokenError as error:
                (behind,) = error.args
            if self._work < 0:
                return 0
            if all(name.search(self._content, at, behind) for name in _IDENTITY):
                return found.start()
        return 0

    def _scan(self, begin: int) -> int:
        """Return where the value at `begin` ends, and count the work."""
        behind = begin
        try:
            behind = _end_of_value(self._content, begin)
        except _BrokenError as error:
            (behind,) = error.args
            raise
        finally:
            self._work -= behind - begin
        return behind

    def _end_of_list(self, begin: int) -> int:
        """Return where the list of objects ends, searched from the page's end; 0 if nowhere."""
        return next((end for end in self._ends_of_list() if end >= begin), 0)

    def _ends_of_list(self) -> list[int]:
        """Return where the list of objects may end, the last place first; searched once."""
        if self._list_ends is None:
            content = self._content
            last = deque(_CLOSING(content, self._at), maxlen=_MAX_CLOSING)
            self._list_ends = [
                one.start() for one in reversed(last) if _closes_page(content, one.end())
            ]
        return self._list_ends


_SEPARATOR: Final = re.compile(rb"\s*+(?:[,{]|(?P<bracket>\])|\Z)").match
"""What may follow a complete object; the comma may be missing."""

_IS_MEMBER: Final = re.compile(rb'\s*+,\s*+"(?:[^"\\]|\\.)*+"\s*+:', re.DOTALL).match
"""What follows the list of objects, and never an object in it."""

_MAX_WORK: Final = 4
_LEAST_WORK: Final = 4 << 20
"""The budget of the search for the ends of damaged objects: how often each byte of a page is read
on average, and the least number of bytes. Without it a large page that is damaged throughout would
take hours. When the budget is used up, the rest counts as one damaged object."""

_MAX_CLOSING: Final = 20
"""Brackets from the end of a page that are tried: no page has more behind its list of objects."""

_TOKEN: Final = re.compile(
    rb'\s*+(?:(?P<text>"(?:[^"\\]|\\.)*+")|[{}\[\],:]|(?P<word>[^\s"{}\[\],:]++))', re.DOTALL
).match
"""A string, a mark or a word: its content is checked when the object is parsed."""

_NEXT: Final = re.compile(rb"(?:(?<=\})\s*+|,\s*+)(?P<brace>\{)").finditer
"""What may be the beginning of another object."""

_IDENTITY: Final = (re.compile(rb"\btype\b"), re.compile(rb"\bid\b"))
"""What every STIX object has; no nested object has both."""

_CLOSING: Final = re.compile(rb"\](?=\s*+[,}])").finditer


def _start_of_objects(content: bytes) -> int:
    """Return where the first object of a page may begin; raises `_BrokenError`."""
    at = 3 if content.startswith(b"\xef\xbb\xbf") else 0
    for name in _PLACE:
        at = _member(content, at, name.encode())
    return _expect(content, at, b"[")


def _member(content: bytes, at: int, name: bytes) -> int:
    """Return where the value of a member of the object at `at` begins."""
    at = _expect(content, at, b"{")
    while True:
        key_end = _end_of_value(content, at)
        key = content[at:key_end].strip()
        at = _expect(content, key_end, b":")
        if key == b'"%s"' % name:
            return at
        at = _expect(content, _end_of_value(content, at), b",")


def _expect(content: bytes, at: int, mark: bytes) -> int:
    token = _TOKEN(content, at)
    if token is None or token[0].lstrip() != mark:
        raise _BrokenError(at)
    return token.end()


def _end_of_value(
    content: bytes, at: int, state: "_State | None" = None, within: "Sequence[_State]" = ()
) -> int:
    """Return where the value that begins at `at` ends, even if its content is odd.

    For the rest of a value, `state` says what is expected and `within` what surrounds it. Raises
    `_BrokenError` with the place where it stops being a value.
    """
    state = state or _State.START
    outer = list(within)  # what to go on with behind each bracket that is open
    while token := _TOKEN(content, at):
        mark = content[token.end() - 1] if token.lastgroup is None else _ATOM
        step = _STEPS.get((state, mark))
        if step is None:
            break
        if mark in b"{[":
            outer.append(_AFTER[state])
        at = token.end()
        state = outer.pop() if step is _State.CLOSED else step
        if state is _State.END:
            return at
    raise _BrokenError(at)


class _State(Enum):
    """What the scan waits for."""

    START = auto()
    KEY = auto()
    COLON = auto()
    VALUE = auto()
    VALUE_DONE = auto()
    ITEM = auto()
    ITEM_DONE = auto()
    CLOSED = auto()
    END = auto()


_ATOM: Final = 0
"""Stands for a string or a word among the marks."""

_AFTER: Final = {
    _State.START: _State.END,
    _State.VALUE: _State.VALUE_DONE,
    _State.ITEM: _State.ITEM_DONE,
}
_STEPS: Final = {
    **{(before, _ATOM): after for before, after in _AFTER.items()},
    **{(before, ord("{")): _State.KEY for before in _AFTER},
    **{(before, ord("[")): _State.ITEM for before in _AFTER},
    (_State.KEY, _ATOM): _State.COLON,
    (_State.KEY, ord(",")): _State.KEY,
    (_State.KEY, ord("}")): _State.CLOSED,
    (_State.COLON, ord(":")): _State.VALUE,
    (_State.VALUE_DONE, ord(",")): _State.KEY,
    (_State.VALUE_DONE, ord("}")): _State.CLOSED,
    (_State.ITEM, ord(",")): _State.ITEM,
    (_State.ITEM, ord("]")): _State.CLOSED,
    (_State.ITEM_DONE, ord(",")): _State.ITEM,
    (_State.ITEM_DONE, ord("]")): _State.CLOSED,
}
"""What may follow what; an extra comma is accepted, because it does not hide the end."""


def _end_of_page(content: bytes, at: int) -> int:
    """Return up to where the text behind the list of objects may be the rest of a page."""
    around = (_State.END, _State.VALUE_DONE)
    try:
        return _end_of_value(content, at, _State.VALUE_DONE, around)
    except _BrokenError as error:
        return int(error.args[0])


_IS_BLANK: Final = re.compile(rb"\s*+\Z").match


def _closes_page(content: bytes, at: int) -> bool:
    """Whether the text behind the bracket before `at` ends the list of objects and the page."""
    if not _MAY_CLOSE(content, at):
        return False
    head = b'{"%s":{"%s":[' % tuple(name.encode() for name in _PLACE)
    return _envelope(head, content[at:]) is not None


_MAY_CLOSE: Final = re.compile(rb'\s*+(?:\}|,\s*+")').match
"""A cheap check, because a page may have many brackets that close nothing."""


def _envelope(head: bytes, tail: bytes) -> dict[str, Any] | None:
    """Return the answer without its objects; None if head and tail are no answer with a page."""
    content = head + b"]" + tail
    for decode in (decode_strictly, decode_loosely):
        try:
            answer = decode(content)
        except NOT_JSON:
            continue
        return answer if has_page(answer) else None
    return None


def _reason(content: bytes, error: Exception) -> str:
    """Say in words what keeps `content` from being JSON."""
    if isinstance(error, RecursionError):
        return NESTED_TOO_DEEPLY
    odd: list[str] = []
    try:
        text = content.decode()
        value = json.loads(
            text, parse_constant=odd.append, parse_int=_checked, parse_float=_checked
        )
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as undecodable:
        return f"holds bytes that are not UTF-8 (byte {undecodable.start})"
    except UnicodeEncodeError:
        return "holds half of a surrogate pair"
    except _NumberError:
        return BEYOND_64_BITS
    except RecursionError:
        return NESTED_TOO_DEEPLY
    except json.JSONDecodeError as fault:
        if fault.msg.startswith("Invalid control character"):
            return f"holds an unescaped control character (character {fault.pos})"
        return f"is not JSON: {fault.msg} (character {fault.pos})"
    return f"holds {odd[0]}, which JSON does not have" if odd else f"is not JSON: {error}"


class _NumberError(Exception):
    """A number does not fit in 64 bits."""


def _checked(digits: str) -> int:
    if math.isinf(float(digits)):
        raise _NumberError
    return 0
