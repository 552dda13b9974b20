"""Feeds: what the Lumen simulator has to hand out, and the judge of what must come of it.

Promise: :class:`SyntheticFeed` computes each indicator from its index and the seed alone, so a feed
of a million costs no memory, any slice is ready at once, and every run sees the same bytes. Its
names and addresses are reserved ones (RFC 2606, 2544, 5737, class E): nothing real is accused.
:func:`expected_ids` is written against the contract, not against the product: an encoded object is
expected at Sentinel if it is a whole indicator, confident enough, and of a type asked for.
"""

import gzip
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import orjson

REQUIRED_FIELDS = ("id", "type", "created", "modified", "pattern", "pattern_type", "valid_from")
"""What the upload API requires of an indicator (learn.microsoft.com, stix-objects-api)."""

_JUDGE_BLOCK = 1000


class Feed(Protocol):
    """A fixed sequence of objects, each as the bytes of its JSON."""

    def __len__(self) -> int: ...

    def encoded(self, start: int, stop: int) -> list[bytes]:
        """The objects from ``start`` up to ``stop``, fewer where the feed ends before."""
        ...


class ListFeed:
    """A feed of given objects; ``bytes`` are taken as JSON already, whatever they hold."""

    def __init__(self, objects: Sequence[object] = ()) -> None:
        self._encoded = [
            item if isinstance(item, bytes) else orjson.dumps(item) for item in objects
        ]

    def __len__(self) -> int:
        return len(self._encoded)

    def encoded(self, start: int, stop: int) -> list[bytes]:
        """See :class:`Feed`."""
        return self._encoded[start:stop]


class PartOf:
    """The objects of a feed from `start` on, before `stop`: what one query of several lists."""

    def __init__(self, feed: Feed, *, start: int, stop: int) -> None:
        self._feed = feed
        self._start = start
        self._stop = stop

    def __len__(self) -> int:
        return self._stop - self._start

    def encoded(self, start: int, stop: int) -> list[bytes]:
        """Return the objects at these places of the part, each as JSON."""
        return self._feed.encoded(self._start + start, min(self._start + stop, self._stop))


def parts_of(feed: Feed, later: int) -> list[PartOf]:
    """Return the first half of a feed and the rest in `later` parts; of a short feed, fewer."""
    half = len(feed) - len(feed) // 2
    ends = [half + (len(feed) - half) * number // later for number in range(later + 1)]
    starts = [0, *ends[:-1]]
    return [PartOf(feed, start=a, stop=b) for a, b in zip(starts, ends, strict=True) if b > a]


class FileFeed(ListFeed):
    """A feed read from a file, plain or ``.gz``; it is held in memory.

    JSON lines, each an object, or one JSON text: a list of objects, or a STIX bundle, whose
    ``objects`` are the feed. Raises ``ValueError`` naming the file and the line or object at fault.
    """

    def __init__(self, path: Path) -> None:
        opener: Any = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rb") as file:
            content = file.read()
        objects = _objects_of_one_text(content, path)
        super().__init__(
            list(_checked_lines(content.splitlines(), path)) if objects is None else objects
        )


@dataclass(frozen=True, slots=True)
class SyntheticFeed:
    """Indicators in Lumen's shape: three domains to one address, a quarter of text confidences.

    ``malformed`` is the share of objects that are broken, each in one of several ways.
    ``changes`` holds the (share, generation) pairs that :meth:`changed` has added.
    """

    count: int
    seed: int = 0
    malformed: float = 0.0
    changes: tuple[tuple[float, int], ...] = ()

    def __len__(self) -> int:
        return self.count

    def encoded(self, start: int, stop: int) -> list[bytes]:
        """See :class:`Feed`."""
        return [self._indicator(index) for index in range(start, min(stop, self.count))]

    def changed(self, fraction: float, generation: int) -> "SyntheticFeed":
        """The same ids in the same order, this share of them with a new ``modified``.

        Confidence is drawn again for those. Which ones is a matter of the generation; changes of a
        changed feed add up, the later generation winning where both touch an indicator.
        """
        return replace(self, changes=(*self.changes, (fraction, generation)))

    def _indicator(self, index: int) -> bytes:
        noise = hashlib.blake2b(b"%d:%d" % (self.seed, index), digest_size=32).digest()
        generation = self._generation(noise)
        encoded = _encode(index, noise, generation)
        if _share(noise[26:28]) < self.malformed:
            return _MALFORMATIONS[noise[28] % len(_MALFORMATIONS)](orjson.loads(encoded))
        return encoded

    def _generation(self, noise: bytes) -> int:
        touched = 0
        for fraction, generation in self.changes:
            draw = hashlib.blake2b(noise, digest_size=2, salt=b"%d" % generation).digest()
            if _share(draw) < fraction:
                touched = max(touched, generation)
        return touched


def expected_ids(feed: Feed, *, threshold: int, ipv4: bool = True, domain: bool = True) -> set[str]:
    """The ids that must arrive at Sentinel, given the operator's filters.

    An indicator on neither an address nor a domain passes the type filter, and so does one on
    both of which one is asked for. What a pattern's strings hold does not count. Malformed
    objects are not expected, nor what is not JSON, is nested deeply or has a number beyond 64 bits,
    nor one whose id holds no UUID, whose confidence is no number from 0 to 100, or that is revoked.
    Of a confidence with a fraction the whole part counts, and none at all counts as 0.
    """
    ids = set()
    for start in range(0, len(feed), _JUDGE_BLOCK):
        for encoded in feed.encoded(start, start + _JUDGE_BLOCK):
            found = _read(encoded)
            if (
                not _is_whole(found)
                or _confidence(found) < threshold
                or found.get("revoked") is True
            ):
                continue
            paths = _STRING.sub("", found["pattern"])
            kinds = {name for name in _KINDS if re.search(rf"\b{name}\s*:\s*value\b", paths)}
            if (
                kinds
                and not (ipv4 and "ipv4-addr" in kinds)
                and not (domain and "domain-name" in kinds)
            ):
                continue
            ids.add(found["id"])
    return ids


_LONG_NUMBER = re.compile(rb"\d{19}")
_DEEP = 200


def _read(encoded: bytes) -> Any:
    """The object as every receiver reads it; ``None`` if one of them could not."""
    try:
        found = orjson.loads(encoded)
        # orjson reads a number beyond 64 bits as a float; neither that nor deep nesting is written.
        if _LONG_NUMBER.search(encoded) or max(map(encoded.count, (b"[", b"{"))) > _DEEP:
            orjson.dumps(json.loads(encoded))
    except (ValueError, TypeError, RecursionError):
        return None
    return found


_STRING = re.compile(r"'(?:\\.|[^'\\])*'", re.DOTALL)
_KINDS = ("ipv4-addr", "domain-name")


def _is_whole(found: Any) -> bool:
    return (
        isinstance(found, dict)
        and all(
            isinstance(found.get(name), str) and found[name].strip() for name in REQUIRED_FIELDS
        )
        and found["type"] == "indicator"
        and _ID.fullmatch(found["id"]) is not None
        and 0 <= _confidence(found) <= 100  # noqa: PLR2004 - the scale of STIX
    )


_ID = re.compile(r"indicator--[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def _confidence(found: dict[str, Any]) -> int:
    """The whole part of the confidence, ``-1`` where it is no number from 0 to 100."""
    value = found.get("confidence", 0)
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return -1
    return int(value) if 0 <= value <= 100 else -1  # noqa: PLR2004 - the scale of STIX


_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,9}(?:\.[0-9]*)?\s*")


def _objects_of_one_text(content: bytes, path: Path) -> list[bytes] | None:
    """The objects of a file that is one list or one bundle; ``None`` for any other file."""
    try:
        orjson.loads(content)
        whole = json.loads(content)  # which, unlike orjson, keeps numbers of any size as they are
    except (orjson.JSONDecodeError, RecursionError):
        return None
    if isinstance(whole, dict):
        if whole.get("type") != "bundle":
            return [content.strip()]
        whole = whole.get("objects", [])
    is_list = isinstance(whole, list)
    if not is_list:
        raise ValueError(f"{path}: JSON, but neither objects nor a list or bundle of them")
    others = [number for number, item in enumerate(whole, start=1) if not isinstance(item, dict)]
    if others:
        raise ValueError(f"{path}, object {others[0]}: JSON, but not an object")
    return [json.dumps(item, ensure_ascii=False).encode() for item in whole]


def _checked_lines(lines: Sequence[bytes], path: Path) -> Iterator[bytes]:
    for number, line in enumerate(lines, start=1):
        stripped = line.strip()
        if not stripped:
            continue
        try:
            found = orjson.loads(stripped)
        except orjson.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: not JSON ({error})") from error
        is_object = isinstance(found, dict)
        if not is_object:
            raise ValueError(f"{path}, line {number}: JSON, but not an object")
        if found.get("type") == "bundle":
            raise ValueError(f"{path}, line {number}: a bundle among lines; give it a file alone")
        yield stripped


_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_DAYS = tuple((_EPOCH + timedelta(days=day)).strftime("%Y-%m-%dT") for day in range(3650))
_LABELS = (
    "botnet-c2", "cobaltstrike", "credential-phishing", "cryptominer", "infostealer", "loader",
    "malware-distribution", "proxy-network", "ransomware", "remote-access-trojan", "scanner",
    "spam-relay",
)  # fmt: skip
_ZONES = ("example", "test", "invalid", "example.com", "example.net", "example.org")
_HOSTS = ("", "cdn.", "login.", "mail.", "update.", "www.")
_BENCHMARK_NET = 198 << 24 | 18 << 16
_BENCHMARK_SIZE = 1 << 17
_CLASS_E_NET = 240 << 24


def _share(two_bytes: bytes) -> float:
    return int.from_bytes(two_bytes) / 65536


def _stamp(minutes: int, noise: int) -> str:
    """A moment some minutes after the epoch, in the form STIX wants."""
    days, minute = divmod(minutes, 1440)
    return f"{_DAYS[days]}{minute // 60:02}:{minute % 60:02}:{noise % 60:02}.{noise:03}Z"


def _address(rank: int) -> str:
    """The next address of 198.18.0.0/15; behind its end, of 240.0.0.0/4."""
    number = _BENCHMARK_NET + rank if rank < _BENCHMARK_SIZE else _CLASS_E_NET + rank
    return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def _encode(index: int, noise: bytes, generation: int) -> bytes:
    """One indicator; every fourth is an address, so that all values of a feed differ."""
    if index % 4 == 3:  # noqa: PLR2004 - the last of each four
        value, kind = _address(index // 4), "ipv4-addr"
    else:
        name = f"{noise[8:14].hex()[: 6 + noise[15] % 7]}{index:x}"
        value = f"{_HOSTS[noise[14] % 6]}{name}.{_ZONES[noise[16] % 6]}"
        kind = "domain-name"
    seen = int.from_bytes(noise[17:20]) % 43_200
    created = _stamp(seen, noise[20])
    modified = _stamp(seen + 60 + noise[21] * 5 + generation * 1440, noise[22])
    confidence = 30 + (noise[23] * 7 + generation * 13) % 71
    shown = f'"{confidence}"' if noise[24] < 64 else str(confidence)  # noqa: PLR2004 - a quarter
    label = _LABELS[noise[25] % len(_LABELS)]
    number = noise[:16].hex()
    identity = (
        f"{number[:8]}-{number[8:12]}-5{number[13:16]}-"
        f"{'89ab'[noise[8] & 3]}{number[17:20]}-{number[20:]}"
    )
    return (
        f'{{"type":"indicator","spec_version":"2.1","id":"indicator--{identity}",'
        f'"created":"{created}","modified":"{modified}","name":"{value}",'
        f'"description":"Infrastructure observed in use: {label}",'
        f'"indicator_types":["malicious-activity"],"pattern":"[{kind}:value = \'{value}\']",'
        f'"pattern_type":"stix","pattern_version":"2.1","valid_from":"{created}",'
        f'"valid_until":"{_stamp(seen + 43_200 + noise[26] * 60, noise[20])}",'
        f'"labels":["{label}"],"confidence":{shown}}}'
    ).encode()


def _without(name: str) -> Callable[[dict[str, Any]], bytes]:
    return lambda found: orjson.dumps({key: found[key] for key in found if key != name})


def _with(name: str, value: object) -> Callable[[dict[str, Any]], bytes]:
    return lambda found: orjson.dumps({**found, name: value})


_MALFORMATIONS: tuple[Callable[[dict[str, Any]], bytes], ...] = (
    *map(_without, REQUIRED_FIELDS),
    _with("id", None),
    _with("pattern", ""),
    _with("pattern", 7),
    _with("confidence", "high"),
    _with("confidence", None),
    _with("confidence", 250),
    _with("confidence", -1),
    _with("confidence", [80]),
    lambda found: orjson.dumps(found["id"]),
    lambda _: b"null",
    lambda found: orjson.dumps([found]),
)
