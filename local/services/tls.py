"""A throw-away certificate authority for servers on 127.0.0.1.

Promise: a client that trusts :attr:`LocalCertificates.bundle` trusts every local simulator *and*
all it trusted before, because the bundle is the system's own one with the local CA added. Not
obvious: ``requests`` reads ``REQUESTS_CA_BUNDLE`` from the environment before it looks at
``Session.verify``, so a process is made to trust the CA by its environment, not by its code. The
CA's private key stays in memory; only public certificates reach the disk.
"""

import os
import ssl
from pathlib import Path

import trustme
from requests.utils import DEFAULT_CA_BUNDLE_PATH

BUNDLE_VARIABLES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
"""Where ``requests`` (hence MSAL and the Azure SDKs) and OpenSSL look for trusted certificates."""


class LocalCertificates:
    """One CA and one server certificate for ``127.0.0.1`` and ``localhost``."""

    def __init__(self, directory: Path) -> None:
        """Make the CA and write its bundle into ``directory``, which is created if missing."""
        authority = trustme.CA(organization_name="Local cloud, trusted by nobody else")
        self._server_certificate = authority.issue_cert("127.0.0.1", "localhost")
        directory.mkdir(parents=True, exist_ok=True)
        self.authority = directory / "ca.pem"
        """PEM file with the local CA alone, which loads much faster: for clients within a test."""
        self.authority.write_bytes(authority.cert_pem.bytes())
        self.bundle = directory / "ca-bundle.pem"
        """PEM file holding the system's certificates followed by the local CA."""
        self.bundle.write_bytes(_system_bundle() + b"\n" + authority.cert_pem.bytes())

    def server_context(self) -> ssl.SSLContext:
        """A context for a server socket; each server takes its own."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server_certificate.configure_cert(context)
        return context

    def environment(self) -> dict[str, str]:
        """The variables that make a process trust the local servers."""
        return dict.fromkeys(BUNDLE_VARIABLES, str(self.bundle))


def _system_bundle() -> bytes:
    """What this process trusts already: a configured bundle, or else the one of requests."""
    for variable in BUNDLE_VARIABLES:
        configured = os.environ.get(variable)
        if configured and Path(configured).is_file():
            return Path(configured).read_bytes()
    return Path(DEFAULT_CA_BUNDLE_PATH).read_bytes()
