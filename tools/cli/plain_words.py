"""A consumer's log in plain words, German and English. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final


class Lang(StrEnum):
    """In which language."""

    DE = "de"
    EN = "en"


WORDS: Final[dict[str, tuple[str, str]]] = {
    "concealment-statement": (
        (
            "Am {day} nahm Ihr Haushalt am Netz {subject} teil: {hidden}-mal ging Ihr Wert in einer Summe "
            "auf, verborgen unter {group} Haushalten; {kept}-mal blieb er im Gateway. {left}"
        ),
        (
            "On {day} your household took part in net {subject}: {hidden} times your value went into a sum, "
            "hidden among {group} households; {kept} times it stayed in the gateway. {left}"
        ),
    ),
    "concealed-contribution": (
        "Ihr Wert (Zeit {slot}) ging im Netz {subject} in einer Summe von {anonymity_set} Haushalten auf.",
        "Your value (slot {slot}) went into a sum of {anonymity_set} households in net {subject}.",
    ),
    "concealment-aborted": (
        "Ihr Wert (Zeit {slot}) konnte im Netz {subject} nicht verborgen werden und blieb im Gateway.",
        "Your value (slot {slot}) could not be hidden in net {subject} and stayed in the gateway.",
    ),
    "concealment-repaired": (
        "Im Netz {subject} wurde eine Störung behoben: {text}",
        "A fault in net {subject} was mended: {text}",
    ),
    "recovered": (
        "Ihr Gateway half, die Summe der Zeit {slot} im Netz {subject} zu retten; es gab keinen Wert preis.",
        "Your gateway helped to save the sum of slot {slot} in net {subject}; it gave no value away.",
    ),
    "audited": (
        "Im Netz {subject} wurde in Zeit {slot} ein Fehler gesucht; kein Wert wurde dabei geöffnet.",
        "In net {subject} a fault of slot {slot} was looked for; no value was opened for it.",
    ),
    "v-mode": (
        "Im Netz {subject} zeigt Ihr Gateway ab Zeit {slot}, dass sein verborgener Wert möglich ist. {text}",
        "From slot {slot} on your gateway shows in net {subject} that its hidden value is possible. {text}",
    ),
    "reconciled": (
        "Was im Gateway blieb, ist nun im Netz {subject} in einer Summe von {anonymity_set} Haushalten.",
        "What had stayed in the gateway went into a sum of {anonymity_set} households in net {subject}.",
    ),
    "joined": (
        "Ihr Haushalt gehört jetzt zum Netz {subject} mit {anonymity_set} Haushalten.",
        "Your household now belongs to net {subject} of {anonymity_set} households.",
    ),
    "switched": (
        "Im Netz {subject} sind jetzt andere Haushalte, zusammen {anonymity_set}. {text}",
        "Net {subject} now has other households, {anonymity_set} together. {text}",
    ),
    "left": (
        "Ihr Haushalt gehört nicht mehr zum Netz {subject}; die Schlüssel dafür sind gelöscht.",
        "Your household no longer belongs to net {subject}; its keys are erased.",
    ),
    "revoked": (
        "Der Administrator hat im Netz {subject} Teilnehmern die Zulassung entzogen. {text}",
        "The administrator withdrew members of net {subject}. {text}",
    ),
    "redrawn": (
        "Im Netz {subject} wurde neu ausgelost, obwohl die vorige Auslosung nicht zu Ende war. {text}",
        "The supplier began a new draw in net {subject} although the last one was not over. {text}",
    ),
    "disputed": (
        "Im Netz {subject} zeigt jemand einen falschen Schlüssel; mit ihm wird nichts geteilt. {text}",
        "A member of net {subject} shows a wrong key; nothing is shared with it. {text}",
    ),
    "profile-change": (
        "Der Administrator hat Ihre Profile geändert: {text}",
        "The administrator changed profiles of yours: {text}",
    ),
    "concealment-undone": (
        "ACHTUNG: Der Administrator lässt zu, dass ein offener Wert einen verborgenen aufdeckt: {text}",
        "ATTENTION: the administrator lets a plain value uncover a hidden one: {text}",
    ),
    "contract-change": ("Ihr Vertrag wurde geändert: {text}", "Your contract changed: {text}"),
    "data-released": (
        "{entries} Werte von {from_utc} bis {to_utc} gehen an {destination} ({subject}).",
        "{entries} values from {from_utc} to {to_utc} are on their way to {destination} ({subject}).",
    ),
    "data-sent": ("Daten sind bei {destination} angekommen.", "Data arrived at {destination}."),
    "data-undelivered/stranded": (
        "Daten für {destination} sind nicht mehr zustellbar: Kein Profil nennt den Empfänger. {text}",
        "Data for {destination} cannot be delivered any more: no profile names the recipient. {text}",
    ),
    "data-undelivered/given-up": (
        "Daten für {destination} kamen nie an; die Kopie ist gelöscht, Ihre Messwerte bleiben. {text}",
        "Data for {destination} never arrived; the copy is deleted, your values stay. {text}",
    ),
    "data-undelivered": (
        "Daten für {destination} werden doch noch zugestellt. {text}",
        "Data for {destination} are delivered after all. {text}",
    ),
    "release-denied": (
        "Eine Weitergabe an {destination} wurde verhindert: {text}",
        "Something for {destination} was not let out: {text}",
    ),
    "peer-misbehaved": (
        "Im Netz {subject} hat sich jemand falsch verhalten; Ihr Haushalt nimmt nicht mehr teil. {text}",
        "Somebody in net {subject} broke the rules; your household takes no part any more. {text}",
    ),
    "peer-misbehaved/left-out": (
        "Der Lieferant hat Ihren Wert (Zeit {slot}) im Netz {subject} angenommen und ausgelassen: {text}",
        "The supplier accepted your value (slot {slot}) in net {subject} and left it out: {text}",
    ),
    "self-test": ("Das Gateway hat sich selbst geprüft. {text}", "The gateway tested itself. {text}"),
    "decommissioned": (
        "Das Gateway wird außer Betrieb genommen; Schlüssel und Daten werden vernichtet.",
        "The gateway is taken out of service; keys and data are destroyed.",
    ),
    "log-read": ("{user} hat dieses Logbuch gelesen.", "{user} read this log."),
    "log-trimmed": (
        "Die ältesten Einträge dieses Logbuchs wurden gelöscht.",
        "The oldest entries of this log are gone.",
    ),
    "meter-status": (
        "Der Zähler {subject} meldet etwas Neues: {sub_event}.",
        "Meter {subject} says something new: {sub_event}.",
    ),
    "meter-ok": ("Der Zähler {subject} wird wieder gehört.", "Meter {subject} is heard again."),
    "meter-communication-fault": (
        "Der Zähler {subject} ist nicht mehr zu hören; Werte fehlen, bis er sich meldet.",
        "Meter {subject} cannot be heard any more; values are missing until it can.",
    ),
    "registration-closed": (
        "Eine Abrechnungsperiode von {subject} ist am {until_utc} beendet.",
        "A billing period of {subject} ended at {until_utc}.",
    ),
}
"""Event (or the net's sub-event) -> German, English."""
_OF_NETS: Final = ("joined", "switched", "left", "revoked", "redrawn", "disputed")
_OWN_WORDS: Final = frozenset(
    {(event, kind) for event in ("contract-change", "peer-misbehaved") for kind in _OF_NETS}
    | {("concealment-repaired", kind) for kind in ("recovered", "audited", "reconciled", "v-mode")}
)
"""(event, sub-event) that is said in words of its own."""

_NOTHING_PLAIN: Final = (
    "Kein Wert dieses Profils hat das Gateway unverborgen verlassen.",
    "No plain value of this profile left the gateway.",
)
_PLAIN: Final = (
    "ACHTUNG: {plain} Datensätze dieses Profils haben das Gateway unverborgen verlassen.",
    "ATTENTION: {plain} data sets of this profile left the gateway in plain.",
)
_INSECURE: Final = (
    " Achtung: Dieses Netz ist zu klein, um jemanden zu verbergen.",
    " Attention: this net is too small to hide anybody.",
)


class _Blanks(dict[str, str]):
    """What an entry does not say is a dash."""

    def __missing__(self, key: str) -> str:
        return "–"


def language(environment: Mapping[str, str]) -> Lang:
    """Return the language that the environment asks for: LC_ALL before LC_MESSAGES before LANG."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if environment.get(name):
            return Lang.DE if environment[name].lower().startswith("de") else Lang.EN
    return Lang.EN


def sentence(entry: Mapping[str, Any], lang: Lang) -> str:
    """Return one entry of a consumer's log, as the gateway hands it out, as a sentence."""
    which = 0 if lang is Lang.DE else 1
    name = entry["event"]
    known = WORDS.get(f"{name}/{entry['sub_event']}", WORDS.get(name))
    if (name, entry["sub_event"]) in _OWN_WORDS:
        known = WORDS[entry["sub_event"]]
    if known is None:
        return " ".join(filter(None, (name, entry["subject"], entry["text"])))
    said = _Blanks({key: str(value) for key, value in entry["evidence"].items() if value != ""})
    said |= {key: entry[key] for key in ("subject", "destination", "user") if entry[key]}
    said["text"], said["sub_event"] = entry["text"], entry["sub_event"]
    if name == "concealment-statement":
        low, high = said["smallest_group"], said["largest_group"]
        said["group"] = low if low == high else f"{low}–{high}"
        said["left"] = (_NOTHING_PLAIN if said["plain"] == "0" else _PLAIN)[which].format_map(said)
    text = known[which].format_map(said).strip()
    return text + (_INSECURE[which] if "INSECURE" in entry["text"] else "")
