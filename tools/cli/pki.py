"""`smgw pki`: a test SM-PKI."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


@app.callback()
def _root() -> None:
    """A test SM-PKI: never for productive use."""


@app.command()
def make(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="a new or empty folder")],
    gwa: Annotated[str, typer.Option(help="name of the administrator")] = "testgwa",
    emp: Annotated[str, typer.Option(help="name of the supplier")] = "testemp",
) -> None:
    """Make root, sub-CA, an administrator (DIR/gwa) and a supplier (DIR/emp)."""
    from tools.counterparts.pki import make_pki

    try:
        make_pki(directory, gwa=gwa, emp=emp)
    except OSError as error:
        raise typer.BadParameter(str(error)) from error
    parties = f"smgw gwa --dir {directory / 'gwa'}, smgw emp --dir {directory / 'emp'}"
    sys.stdout.write(f"{directory}: root and sub-CA; next: {parties}\n")


@app.command()
def issue(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="folder made by `smgw pki make`")],
    requests: Annotated[
        list[Path], typer.Argument(metavar="CSR...", help="PKCS#10 requests tls.csr, sig.csr, enc.csr")
    ],
    gateway: Annotated[str, typer.Option("--gateway", metavar="ID", help="e.g. ESGW0100000001")],
) -> None:
    """Issue a gateway's certificates; the file's name before the dot says for which use."""
    from asn1crypto import pem

    from hsm.api import CertificateUse
    from tools.counterparts.pki import issue_gateway

    try:
        ders = {}
        for path in requests:
            data = path.read_bytes()
            ders[CertificateUse(path.stem.lower())] = pem.unarmor(data)[2] if pem.detect(data) else data
        issued = issue_gateway(directory, gateway, ders)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    for use in issued:
        sys.stdout.write(f"{directory / 'gateways' / gateway.lower() / (use.value + '.pem')}\n")
