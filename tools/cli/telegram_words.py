"""What `smgw decode wmbus` and `smgw listen` say to people, in German; English stands in the code. No I/O."""

from __future__ import annotations

from typing import Final

from tools.cli.plain_words import Lang

GERMAN: Final[dict[str, str]] = {
    # headings and lines of a telegram
    "access": "Zugriff",
    "status": "Status",
    "security": "Schutz",
    "counter": "Zähler",
    "quantity": "Größe",
    "value": "Wert",
    "unit": "Einheit",
    "function": "Art",
    "storage": "Speicher",
    "tariff": "Tarif",
    "subunit": "Untereinheit",
    "DIB VIB": "DIB VIB",
    "data": "Daten",
    "profile": "Wertereihe",
    "day": "Tag",
    "refused": "abgelehnt",
    # what a value is
    "inst": "momentan",
    "max": "Maximum",
    "min": "Minimum",
    "error": "bei Fehler",
    "energy": "Energie",
    "volume": "Volumen",
    "mass": "Masse",
    "power": "Leistung",
    "volume flow": "Durchfluss",
    "mass flow": "Massenstrom",
    "flow temperature": "Vorlauftemperatur",
    "return temperature": "Rücklauftemperatur",
    "temperature difference": "Temperaturdifferenz",
    "external temperature": "Außentemperatur",
    "pressure": "Druck",
    "date": "Datum",
    "datetime": "Datum und Uhrzeit",
    "hca units": "Heizkosten-Einheiten",
    "voltage": "Spannung",
    "current": "Strom",
    "frequency": "Frequenz",
    "reactive energy": "Blindarbeit",
    "reactive power": "Blindleistung",
    "apparent power": "Scheinleistung",
    "apparent energy": "Scheinarbeit",
    "relative humidity": "relative Feuchte",
    "on time": "Einschaltdauer",
    "operating time": "Betriebszeit",
    "battery operating time": "Betriebszeit der Batterie",
    "averaging duration": "Dauer der Mittelung",
    "actuality duration": "Alter der Werte",
    "fabrication no": "Fabriknummer",
    "identification": "Kennung",
    "access number": "Zugriffsnummer",
    "model version": "Modell",
    "software version": "Softwareversion",
    "hardware version": "Hardwareversion",
    "firmware version": "Firmwareversion",
    "customer location": "Einbauort",
    "customer": "Kunde",
    "parameter set": "Parametersatz",
    "param activation state": "Parameter aktiv",
    "error flags": "Fehlermeldungen",
    "digital input": "digitaler Eingang",
    "digital output": "digitaler Ausgang",
    "dimensionless": "ohne Einheit",
    "cumulation counter": "Kumulierungen",
    "storage interval": "Speicherabstand",
    "reset counter": "Rücksetzungen",
    "control signal": "Steuersignal",
    "special supplier information": "Angaben des Lieferanten",
    "manufacturer specific": "herstellereigen",
    # what to look at, by error
    "The input is not a whole number of hexadecimal bytes.": (
        "Die Eingabe besteht nicht aus ganzen hexadezimalen Bytes."
    ),
    "A checksum is wrong: a damaged telegram, or another frame form than --frame says.": (
        "Eine Prüfsumme ist falsch: ein beschädigtes Telegramm oder eine andere Form, als --frame sagt."
    ),
    "A length field does not match: bytes are cut off, left over, or link CRCs are still inside.": (
        "Eine Längenangabe passt nicht: Bytes fehlen, sind zu viel, oder die Prüfsummen stecken noch darin."
    ),
    "Another key, or the telegram was altered. Nothing was decrypted.": (
        "Ein anderer Schlüssel, oder das Telegramm wurde verändert. Nichts wurde entschlüsselt."
    ),
    "The message counter did not rise: an old telegram, sent again.": (
        "Der Nachrichtenzähler stieg nicht: ein altes Telegramm, noch einmal gesendet."
    ),
    "Give the meter's own key with --key; if you did, it is not this meter's key.": (
        "Mit --key den Schlüssel dieses Zählers angeben; wenn einer dasteht, ist es nicht seiner."
    ),
    "A layer or mode that is not built, or not accepted in this --mode.": (
        "Eine Schicht oder ein Modus, den es hier nicht gibt oder den dieses --mode nicht annimmt."
    ),
    "Less protected than this profile allows; try without --key and with --mode open.": (
        "Schwächer geschützt, als dieses Profil erlaubt; ohne --key und mit --mode open versuchen."
    ),
    "The bytes do not follow the standard's structure.": "Die Bytes folgen nicht dem Aufbau der Norm.",
    "The telegram is from another meter than the one expected.": (
        "Das Telegramm ist von einem anderen Zähler als dem erwarteten."
    ),
    "Bytes from a stick that are no whole message.": (
        "Bytes eines Empfängers, die keine ganze Nachricht sind."
    ),
    "The serial port is not there, or went away.": "Die Schnittstelle ist nicht da oder verschwand.",
    "The stick or station said something that its state does not allow.": (
        "Empfänger oder Station sagten etwas, das ihr Zustand nicht erlaubt."
    ),
    # smgw listen
    "{kind} on {port}, mode {mode}: {frames} telegrams": (
        "{kind} an {port}, Modus {mode}: {frames} Telegramme"
    ),
    "maker": "Hersteller",
    "number": "Nummer",
    "kind": "Art",
    "mode": "Modus",
    "every": "alle",
    "last": "zuletzt",
    "{seconds} s ago": "vor {seconds} s",
    "a number and Enter picks a meter, Ctrl-C ends": (
        "Nummer und Eingabetaste wählen einen Zähler, Strg-C beendet"
    ),
    "no answer": "keine Antwort",
    "trouble: {trouble}": "Störung: {trouble}",
    "no byte from the receiver yet: right kind? `smgw doctor --port ...` looks closer": (
        "noch kein Byte vom Empfänger: richtige Art? `smgw doctor --port ...` sieht genauer hin"
    ),
    "{garbage} bytes that are no message: is it another kind? name it with --kind": (
        "{garbage} Bytes, die keine Nachricht sind: ist es eine andere Art? Mit --kind nennen"
    ),
    "mode {mode}: nothing heard yet; some meters send every few minutes only": (
        "Modus {mode}: noch nichts gehört; manche Zähler senden nur alle paar Minuten"
    ),
    "most telegrams come cut off: this receiver is too small for them": (
        "die meisten Telegramme kommen abgeschnitten: dieser Empfänger ist zu klein für sie"
    ),
    "most messages have wrong checksums: weak signal, a bad cable, or a second program": (
        "die meisten Prüfsummen sind falsch: schwaches Signal, schlechtes Kabel oder ein zweites Programm"
    ),
    "telegrams that cannot be taken apart: {codes}; a number and Enter picks a meter": (
        "Telegramme, die sich nicht zerlegen lassen: {codes}; Nummer und Eingabetaste wählen einen Zähler"
    ),
    "key, 32 hex digits (empty: it has none)": "Schlüssel, 32 Hexziffern (leer: er hat keinen)",
    "that is no hexadecimal number": "das ist keine Hexadezimalzahl",
    "name of its profile (empty: do not keep it)": "Name seines Profils (leer: nicht behalten)",
    "whose values are they": "wessen Werte sind es",
    "not written: {fault}": "nicht geschrieben: {fault}",
    "{key}: {expected} is expected": "{key}: erwartet wird {expected}",
    "written to {file}": "geschrieben nach {file}",
}
"""What `smgw decode wmbus` and `smgw listen` say to people, in German; English stands in the code. No I/O."""


def said(text: str, lang: Lang, **values: object) -> str:
    """Return `text` in a language, its {names} filled in; what has no German stays as it is."""
    words = GERMAN.get(text, text) if lang is Lang.DE else text
    return words.format(**values) if values else words
