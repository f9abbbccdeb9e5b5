"""The rules of docs/decisions/001-layout.md as functions: a module in, what breaks the rule out."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable

from tests.architecture.source import Module, dotted, imports, names

Rule = Callable[[Module], list[str]]

IO_BY_NAME = frozenset(
    (
        "driver",
        "client",
        "server",
        "listener",
        "relay",
        "dial",
        "tls",
        "session",
        "transport",
        "vpcd",
        "pcsc",
        "serial_port",
        "mqtt",
        "clock",
        "partition",
        "outbox",
        "pipeline",
        "boot",
        "supervisor",
        "control",
        "__main__",
    )
)
"""Only modules so named may do input and output, hold a clock or an event loop."""

IO_LIBRARIES = frozenset(
    (
        "asyncio",
        "ssl",
        "socket",
        "socketserver",
        "select",
        "selectors",
        "time",
        "signal",
        "subprocess",
        "threading",
        "_thread",
        "concurrent",
        "multiprocessing",
        "queue",
        "sched",
        "anyio",
        "trio",
        "httpcore",
        "httpx",
        "aiohttp",
        "serial",
        "smartcard",
        "aiomqtt",
        "termios",
        "tty",
        "pty",
    )
)
DEVICE_LIBRARIES = {"serial": "lmn.serial_port", "smartcard": "hsm.pcsc", "aiomqtt": "han.mqtt"}
RANDOM_LIBRARIES = frozenset(("random", "secrets", "uuid"))
RANDOM_AND_TIME = re.compile(
    r"os\.(urandom|getrandom)|urandom|getrandom"
    r"|time\.(time|time_ns|localtime|gmtime)|(.*\.)?(datetime|date)\.(now|utcnow|today)"
    r"|ssl\.RAND_\w+|(.*\.)?(AESGCM|AESCCM|Fernet|ChaCha20Poly1305)\.generate_key"
)
PRIVATE_KEYS = re.compile(
    r"(.*\.)?([A-Z][A-Za-z0-9]*PrivateKey(Types|WithSerialization)?|generate_private_key|derive_private_key"
    r"|from_private_bytes|load_(pem|der|ssh)_private_key|load_cert_chain|load_pkcs12|load_key_and_certificates"
    r"|(PEM_read|d2i|i2d)_\w*PrivateKey\w*)"
)
MAX_LINES = 500

DCNET_CODECS = (
    "errors",
    "machines",
    "messages",
    "policy",
    "primitives",
    "founding.authorisation",
    "founding.beacon",
    "founding.confirmation",
    "founding.succession",
)
"""Wire forms and arithmetic of the DC-net, with the canonical form of its policy that every party hashes."""
_HSM_FOR_ALL = ("hsm.api", "hsm.errors", "hsm.tlv", "hsm.tls", "hsm.x509")
_HSM_FOR_ABOVE = (*_HSM_FOR_ALL, "hsm.client", "hsm.session", "hsm.emulator", "hsm.transport")
_HSM_FOR_TOOLS = (*_HSM_FOR_ABOVE, "hsm.apdu", "hsm.channel", "hsm.pcsc", "hsm.profile", "hsm.suites")
"""`smgw hsm` talks to any card, command by command."""
_FIRMWARE_FOR_TOOLS = (
    "firmware.__main__.main",
    "firmware.boot",
    "firmware.clock.clock",
    "firmware.config",
    "firmware.errors",
    "firmware.log.analysis",
    "firmware.log.diagnostics",
    "firmware.enforcement.roles",
    "firmware.log.entry",
    "firmware.log.export",
    "firmware.log.vocabulary",
    "firmware.life.callers",
    "firmware.life.decommission.MARKER",
    "firmware.life.states",
    "firmware.metering.register.RegisteredValue",
    "firmware.enforcement.determination",
    "firmware.enforcement.schedule",
    "firmware.profile.check",
    "firmware.profile.codec",
    "firmware.profile.difference",
    "firmware.profile.model",
    "firmware.transfer",
    *(f"firmware.enforcement.dcnet.{name}" for name in DCNET_CODECS),
)
PUBLIC = {
    # (who imports, from which package) -> what is public there; a pair not listed is free of this rule
    ("lmn", "hsm"): _HSM_FOR_ALL,
    ("wan", "hsm"): _HSM_FOR_ALL,
    ("han", "hsm"): _HSM_FOR_ALL,
    ("firmware", "hsm"): _HSM_FOR_ABOVE,
    ("tools", "hsm"): _HSM_FOR_TOOLS,
    ("wan", "lmn"): ("lmn.model", "lmn.errors", "lmn.ports"),
    ("han", "lmn"): ("lmn.model", "lmn.errors", "lmn.ports"),
    ("tools", "firmware"): _FIRMWARE_FOR_TOOLS,
}
DCNET_PRIVATE = tuple(
    f"firmware.enforcement.dcnet.{name}"
    for name in ("slot", "service", "founding.membership", "founding.roster")
)
"""Rules of the DC-net: firmware wires them, nobody else sees them."""
CHECKS = ("hsm.x509.check_path", "hsm.x509.path", "hsm.x509.verify", "hsm.x509.signature", "hsm.tls")
"""What a counterpart must do with foreign code, so that one mistake is not made at both ends."""


def io_by_name(source: Module) -> list[str]:
    """Cores take bytes and instants and give values; only modules named for it touch the world."""
    if source.package == "tools" or source.last in IO_BY_NAME or source.within("hsm.tls"):
        return []
    return [
        f"{source.name}:{line} imports {name}"
        for name, line in imports(source)
        if name.split(".")[0] in IO_LIBRARIES
    ]


def one_module_a_device(source: Module) -> list[str]:
    """Each foreign device library is imported in one module of the product."""
    if source.package == "tools":
        return []
    return [
        f"{source.name}:{line} imports {name}, which belongs to {owner}"
        for name, line in imports(source)
        if (owner := DEVICE_LIBRARIES.get(name.split(".")[0])) and source.name != owner
    ]


def private_parts(source: Module) -> list[str]:
    """A package shows the packages above what is listed and nothing else."""
    if source.within("tools.bench"):  # times the inside of parts, like a test; is nobody's counterpart
        return []
    found = []
    for name, line in _module_imports(source):
        package = name.partition(".")[0]
        public = PUBLIC.get((source.package, package)) if package != source.package else None
        if public is not None and name != package and not _inside(name, public):
            found.append(f"{source.name}:{line} imports {name}, private to {package}")
        if _inside(name, DCNET_PRIVATE) and source.package != "firmware":
            found.append(f"{source.name}:{line} imports {name}, private to the DC-net")
    return found


def foreign_peers(source: Module) -> list[str]:
    """Counterparts share codecs with the product, never its checks."""
    if not source.within("tools.counterparts"):
        return []
    return [f"{source.name}:{line} imports {name}" for name, line in imports(source) if _inside(name, CHECKS)]


def keys_in_the_module(source: Module) -> list[str]:
    """No private key of the gateway exists outside the security module, not even the emulated one's."""
    if source.package == "tools" or source.within("hsm.emulator"):
        return []
    return [
        f"{source.name}:{line} uses {name}" for name, line in names(source) if PRIVATE_KEYS.fullmatch(name)
    ]


def time_and_chance_come_in(source: Module) -> list[str]:
    """Instants and randomness are arguments; the clock and the emulated card's entropy alone make them."""
    if source.package == "tools" or source.name in ("firmware.clock.clock", "hsm.emulator.entropy"):
        return []
    imported = [(name, line) for name, line in imports(source) if name.split(".")[0] in RANDOM_LIBRARIES]
    used = [(name, line) for name, line in names(source) if RANDOM_AND_TIME.fullmatch(name)]
    return [f"{source.name}:{line} uses {name}" for name, line in imported + used]


def small(source: Module) -> list[str]:
    """Past 500 lines it is usually two modules."""
    lines = source.text.count("\n")
    return [f"{source.name} has {lines} lines"] if lines > MAX_LINES else []


def documented(source: Module) -> list[str]:
    """The first line of a module says what it is for."""
    return [] if (ast.get_docstring(source.tree) or "").strip() else [f"{source.name} has no docstring"]


RELEASE_HOME, RELEASE_MAKER = "firmware.enforcement.release", "firmware.enforcement.gate"


def release_classes(sources: Iterable[Module]) -> dict[str, str]:
    """Return {class: module} of all that inherits from Release, over any number of steps."""
    found: dict[str, str] = {}
    classes = [(s.name, node) for s in sources for node in ast.walk(s.tree) if isinstance(node, ast.ClassDef)]
    size = -1
    while size != len(found):
        size = len(found)
        for name, node in classes:
            bases = {dotted(_unsubscripted(base)).rpartition(".")[2] for base in node.bases}
            if bases & {"Release", *found} and node.name != "Release":
                found[node.name] = name
    return found


def one_gate(sources: Iterable[Module]) -> list[str]:
    """What leaves is a Release; its class has one home and one maker."""
    sources = list(sources)
    concrete = release_classes(sources)
    found = [f"{home}.{name} is a Release" for name, home in concrete.items() if home != RELEASE_HOME]
    for source in sources:
        if source.name in (RELEASE_HOME, RELEASE_MAKER):
            continue
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Call) and any(part in concrete for part in dotted(node.func).split(".")):
                found.append(f"{source.name}:{node.lineno} makes a Release by {dotted(node.func)}")
            elif isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] == "__new__":
                passed = [dotted(argument) for argument in node.args]
                found += [f"{source.name}:{node.lineno} makes {name}" for name in passed if name in concrete]
    return found


def _unsubscripted(node: ast.expr) -> ast.expr:
    return node.value if isinstance(node, ast.Subscript) else node


def _inside(name: str, prefixes: Iterable[str]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def _module_imports(source: Module) -> list[tuple[str, int]]:
    """Imports as modules: `from hsm import api` is hsm.api, `from hsm.api import Curve` stays hsm.api."""
    found = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                found.append((f"{node.module}.{alias.name}", node.lineno))
    return found


EACH_MODULE: tuple[Rule, ...] = (
    io_by_name,
    one_module_a_device,
    private_parts,
    foreign_peers,
    keys_in_the_module,
    time_and_chance_come_in,
    small,
    documented,
)
