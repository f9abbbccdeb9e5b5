"""Reads nets in the form of the known answers without their results, and adds the results. Does no I/O.

Everything is computed by the product's own core; what is in here only reads, arranges and writes.
Form: tests/vectors/dcnet and docs/dcnet.md, "smgw dcnet compute".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NoReturn

from firmware.enforcement.dcnet.primitives import arithmetic, graph, kdf
from firmware.enforcement.dcnet.primitives.arithmetic import MODULUS, Prf, from_lanes
from firmware.enforcement.dcnet.primitives.kdf import KEY_BYTES, NET_BYTES, SCHEME

_U32: Final = 1 << 32
_MAX_MEMBERS: Final = 1 << 20
_MAX_LANES: Final = 1 << 16
_MAX_KDF_BYTES: Final = 8160
_MAX_PART: Final = (1 << 16) - 1
_MAX_PRF_BYTES: Final = 1 << 20
_MAX_EDGES: Final = 10_000_000
_HASH_BYTES: Final = 32
_RESULTS: Final = {"y", "r", "total", "out", "edges"}


class BadNets(ValueError):
    """A file is not in the form; says where and what was expected."""


def load(text: str) -> Any:
    """Parse JSON; a key that stands twice in one object is an error, as a second reading would be lost.

    Raises:
        BadNets: not JSON, or a key is repeated.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except BadNets:
        raise
    except json.JSONDecodeError as error:
        raise BadNets(f"line {error.lineno}, column {error.colno}: not JSON: {error.msg}") from None
    except RecursionError:
        raise BadNets("nested too deeply") from None
    except ValueError:  # more digits than Python converts; nothing of the form needs more than 20
        raise BadNets("a number of thousands of digits") from None


def computed(document: Any) -> Any:
    """Return the document with every result in it; results that were there are replaced.

    Fields that the form does not have pass through (`unknown` names them).

    Args:
        document: the whole form (`kdf`, `prf`, `h_graph`, `net`, each optional), one net, or a list of nets.

    Raises:
        BadNets: something is missing, of the wrong type or out of range.
    """
    if isinstance(document, list):
        return [_net(_table(item, f"[{i}]"), f"[{i}]", None) for i, item in enumerate(document)]
    if not isinstance(document, dict):
        _fail("the file", "an object or a list of nets", document)
    if _alone(document):
        return _net(document, "the net", None)
    found = dict(document)
    if "scheme" in found and found["scheme"] != SCHEME.decode():
        raise BadNets(f"scheme is {found['scheme']!r}; this product computes {SCHEME.decode()!r}")
    if not found.keys() & _PARTS.keys():
        raise BadNets(f"the file has none of {', '.join(_PARTS)}, and no net with 'readings'")
    previous = found.get("prev")
    for part, compute in _PARTS.items():
        if part in found:
            if not isinstance(found[part], list):
                _fail(part, "a list", found[part])
            found[part] = [
                compute(_table(item, f"{part}[{i}]"), f"{part}[{i}]", previous)
                for i, item in enumerate(found[part])
            ]
    return found


def unknown(document: Any) -> list[str]:
    """Name the fields that the form does not have: they are passed through, and may be typing errors."""
    if isinstance(document, list):
        return [f"[{i}].{name}" for i, item in enumerate(document) for name in sorted(item.keys() - _NET)]
    if _alone(document):
        return sorted(document.keys() - _NET)
    found = sorted(document.keys() - {"scheme", "prev", *_PARTS})
    for part, names in _FIELDS.items():
        for i, item in enumerate(document.get(part, ())):
            found += [f"{part}[{i}].{name}" for name in sorted(item.keys() - names)]
    return found


def differences(given: Any, results: Any, where: str = "") -> list[str]:
    """Name every result in `given` that is not the one in `results`; what is not given is not compared."""
    if isinstance(given, list) and isinstance(results, list) and len(given) == len(results):
        pairs = enumerate(zip(given, results, strict=True))
        return [found for i, (a, b) in pairs for found in differences(a, b, f"{where}[{i}]")]
    if not isinstance(given, dict) or not isinstance(results, dict):
        return []
    found = []
    for name, value in given.items():
        place = f"{where}.{name}" if where else name
        if name not in _RESULTS:
            found += differences(value, results.get(name), place)
        elif value != results[name]:
            found.append(place + _whose(value, results[name]))
    return found


def _alone(document: Mapping[str, Any]) -> bool:
    """Tell whether an object is one net; `net` is its name then, and a list of nets in the whole form."""
    return not document.keys().isdisjoint(("readings", "seeds", "edge_epoch_keys"))


def _whose(given: object, result: object) -> str:
    """Name the members whose results differ, where results are by member."""
    if not isinstance(given, dict) or not isinstance(result, dict):
        return ""
    wrong = [member for member in given.keys() | result.keys() if given.get(member) != result.get(member)]
    return f": members {', '.join(sorted(wrong, key=lambda name: (len(name), name)))}"


# -- the four parts of the form --------------------------------------------------------------------


def _kdf(case: dict[str, Any], where: str, _: object) -> dict[str, Any]:
    context = case.get("ctx", [])
    if not isinstance(context, list):
        _fail(f"{where}.ctx", "a list of hex strings", context)
    label = case.get("label")
    if not isinstance(label, str) or not label.isascii() or len(label) > _MAX_PART:
        _fail(f"{where}.label", f"an ASCII string of at most {_MAX_PART} characters", label)
    parts = [_hex(item, f"{where}.ctx[{i}]") for i, item in enumerate(context)]
    if any(len(part) > _MAX_PART for part in parts):
        raise BadNets(f"{where}.ctx: at most {_MAX_PART} bytes each")
    length = _number(case.get("n"), f"{where}.n", 1, _MAX_KDF_BYTES + 1)
    key = _hex(case.get("key"), f"{where}.key")
    return case | {"out": kdf.kdf(key, label, *parts, length=length).hex()}


def _prf(case: dict[str, Any], where: str, _: object) -> dict[str, Any]:
    out = arithmetic.prf(
        _hex(case.get("key"), f"{where}.key", KEY_BYTES),
        _hex(case.get("ctx"), f"{where}.ctx", _HASH_BYTES),
        _number(case.get("slot"), f"{where}.slot", 0, _U32),
        _number(case.get("purpose"), f"{where}.purpose", 0, 256),
        _number(case.get("n"), f"{where}.n", 0, _MAX_PRF_BYTES + 1),
    )
    return case | {"out": out.hex()}


def _h_graph(case: dict[str, Any], where: str, _: object) -> dict[str, Any]:
    size = _number(case.get("n"), f"{where}.n", 1, _MAX_MEMBERS)
    degree = _number(case.get("k"), f"{where}.k", 2, _U32)
    if degree % 2:
        raise BadNets(f"{where}.k: an even number was expected, not {degree}")
    if min(size - 1, degree) * size > 2 * _MAX_EDGES:
        raise BadNets(f"{where}: a graph of more than {_MAX_EDGES} edges")
    edges = graph.h_graph(range(1, size + 1), degree, _hex(case.get("beacon"), f"{where}.beacon"))
    return case | {"edges": [list(edge) for edge in sorted(edges)]}


def _net(case: dict[str, Any], where: str, previous_of_all: object) -> dict[str, Any]:
    """Compute one slot of one net: y and r of the accepted members, and the total over them."""
    size = _number(case.get("n"), f"{where}.n", 1, _MAX_MEMBERS)
    slot = _number(case.get("slot"), f"{where}.slot", 0, _U32)
    if "k" in case:
        _number(case["k"], f"{where}.k", 0, _U32)
    if "net" in case:
        _hex(case["net"], f"{where}.net", NET_BYTES)
    given = case.get("prev", previous_of_all)
    previous = bytes(_HASH_BYTES) if given is None else _hex(given, f"{where}.prev", _HASH_BYTES)
    everybody = _everybody(case, where, size)
    missing = _drop(case.get("drop", []), f"{where}.drop", everybody)
    accepted = sorted(everybody - missing)
    readings = _members(case.get("readings"), f"{where}.readings", everybody, _lanes)
    seeds = _members(case.get("seeds"), f"{where}.seeds", everybody, lambda x, at: _hex(x, at, KEY_BYTES))
    for name, values in (("readings", readings), ("seeds", seeds)):
        if lacking := [member for member in accepted if member not in values]:
            raise BadNets(f"{where}.{name}: member {lacking[0]} is not in drop and has none")
    widths = {len(reading) for reading in readings.values()}
    if len(widths) > 1:
        raise BadNets(f"{where}.readings: members have {sorted(widths)} lanes; one number was expected")
    lanes = widths.pop() if widths else 0
    edges = _edges(case.get("edge_epoch_keys"), f"{where}.edge_epoch_keys", everybody)
    submitted, opened = {}, {}
    for index in accepted:
        own = edges.get(index, {})
        submitted[index] = arithmetic.submission(
            readings[index], seeds[index], index, own, everybody, previous, slot
        )
        opened[index] = arithmetic.opening(seeds[index], index, own, missing, previous, slot, lanes)
    return case | {
        "y": {str(index): from_lanes(y).hex() for index, y in submitted.items()},
        "r": {str(index): from_lanes(r).hex() for index, r in opened.items()},
        "total": list(arithmetic.total(submitted.values(), opened.values(), lanes)),
    }


_NET: Final = frozenset(
    ("n", "k", "slot", "drop", "readings", "edge_epoch_keys", "seeds", "prev", "net", "y", "r", "total")
)
_FIELDS: Final = {
    "kdf": {"key", "label", "ctx", "n", "out"},
    "prf": {"key", "ctx", "slot", "purpose", "n", "out"},
    "h_graph": {"n", "k", "beacon", "edges"},
    "net": _NET,
}
_PARTS: Final[Mapping[str, Callable[[dict[str, Any], str, object], dict[str, Any]]]] = {
    "kdf": _kdf,
    "prf": _prf,
    "h_graph": _h_graph,
    "net": _net,
}


# -- values ----------------------------------------------------------------------------------------


def _everybody(case: Mapping[str, Any], where: str, size: int) -> frozenset[int]:
    """Return the members: 1..n, or those with readings and in `drop` if they are n with gaps between them."""
    readings, drop = case.get("readings"), case.get("drop", [])
    named = {_index(name, f"{where}.readings") for name in _table(readings, f"{where}.readings")}
    if isinstance(drop, list):
        named.update(item for item in drop if type(item) is int and 0 <= item < _U32)
    return frozenset(named if len(named) == size else range(1, size + 1))


def _edges(item: object, where: str, everybody: Collection[int]) -> dict[int, dict[int, Prf]]:
    found: dict[int, dict[int, Prf]] = {}
    for name, value in _table(item, where).items():
        ends = name.split("-")
        if len(ends) != 2:
            raise BadNets(f"{where}: {name!r} is no edge; 'a-b' with two member numbers was expected")
        a, b = (_member(_index(end, f"{where}: {name!r}"), f"{where}: {name!r}", everybody) for end in ends)
        if a == b or b in found.get(a, {}):
            raise BadNets(f"{where}: {name!r} {'joins a member to itself' if a == b else 'stands twice'}")
        edge = Prf(_hex(value, f"{where}.{name}", KEY_BYTES))
        found.setdefault(a, {})[b] = found.setdefault(b, {})[a] = edge
    return found


def _drop(item: object, where: str, everybody: Collection[int]) -> frozenset[int]:
    if not isinstance(item, list):
        _fail(where, "a list of member numbers", item)
    return frozenset(
        _member(_number(member, f"{where}[{i}]", 0, _U32), f"{where}[{i}]", everybody)
        for i, member in enumerate(item)
    )


def _members(
    item: object, where: str, everybody: Collection[int], read: Callable[[Any, str], Any]
) -> dict[int, Any]:
    found = {}
    for name, value in _table(item, where).items():
        found[_member(_index(name, where), where, everybody)] = read(value, f"{where}.{name}")
    return found


def _lanes(item: object, where: str) -> tuple[int, ...]:
    if not isinstance(item, list) or not 1 <= len(item) <= _MAX_LANES:
        _fail(where, f"a list of 1 to {_MAX_LANES} numbers", item)
    return tuple(_number(value, f"{where}[{lane}]", 0, MODULUS) for lane, value in enumerate(item))


def _index(name: str, where: str) -> int:
    if not (name.isascii() and name.isdigit() and str(int(name[:11])) == name):
        raise BadNets(f"{where}: {name!r} is no member number")
    return _number(int(name), f"{where}: {name!r}", 0, _U32)


def _member(index: int, where: str, everybody: Collection[int]) -> int:
    if index not in everybody:
        raise BadNets(f"{where}: {index} is none of the net's {len(everybody)} members")
    return index


def _number(item: object, where: str, low: int, high: int) -> int:
    if type(item) is not int or not low <= item < high:
        _fail(where, f"a whole number from {low} to {high - 1}", item)
    return item


def _hex(item: object, where: str, length: int | None = None) -> bytes:
    wanted = "hex" if length is None else f"{length} bytes in hex"
    if not isinstance(item, str) or any(digit not in "0123456789abcdefABCDEF" for digit in item):
        _fail(where, wanted, item)
    if len(item) % 2 or (length is not None and len(item) != 2 * length):
        raise BadNets(f"{where}: {wanted} was expected, not {len(item)} digits")
    return bytes.fromhex(item)


def _table(item: object, where: str) -> dict[str, Any]:
    if not isinstance(item, dict):
        _fail(where, "an object", item)
    return item


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise BadNets(f"the key {next(n for n in names if names.count(n) > 1)!r} stands twice in one object")
    return found


def _fail(where: str, wanted: str, item: object) -> NoReturn:
    # Types only: a key or a reading of somebody's net has no place in an error text.
    names: dict[type, str] = {type(None): "nothing", dict: "an object", list: "a list", str: "a string"}
    kind = names.get(type(item), f"a {type(item).__name__}")
    got = f"{item}" if type(item) is int and -(10**6) < item < 10**6 else kind
    raise BadNets(f"{where}: {wanted} was expected, not {got}")
