"""TLS contexts: one for everybody, and one for each set of certificates that endpoints bring with them."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections import OrderedDict
from pathlib import Path
from typing import NoReturn

from webhookd.core.attempt import ErrorClass
from webhookd.core.settings import TlsFiles
from webhookd.net.failures import AttemptFailedError

log = logging.getLogger(__name__)

CONTEXTS = 256
"""Contexts that are kept beside the usual one; the one used longest ago goes first."""


class TlsContexts:
    """Gives each endpoint the context it connects with; belongs to one loop.

    Files are read when they are first needed, and again where their fingerprint has changed.
    """

    def __init__(self, usual: ssl.SSLContext) -> None:
        self._usual = usual
        self._kept: OrderedDict[TlsFiles, ssl.SSLContext] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    async def find(self, files: TlsFiles | None) -> ssl.SSLContext:
        """Return the context for `files`. Raises AttemptFailedError (local) where they cannot be used any more."""
        if files is None:
            return self._usual
        context = self._kept.get(files)
        if context is None:
            # Authorities of a whole system take tens of milliseconds to load; two that ask at once both do.
            try:
                context = await asyncio.to_thread(context_for, files)
            except (OSError, ValueError) as error:
                # They were sound when the configuration was read, so this is no fault of the receiver's.
                text = f"the certificates of this endpoint cannot be used any more: {_words(error)}"
                raise AttemptFailedError(ErrorClass.LOCAL, text) from error
            self._kept[files] = context
            if len(self._kept) > CONTEXTS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(files)
        return context


def default_context() -> ssl.SSLContext:
    """Return a context that verifies chain and host name by what the system trusts; TLS 1.2 at least, HTTP/1.1 only.

    A system that trusts nobody is warned about: OpenSSL takes that without a word, and refuses every certificate.
    """
    paths = ssl.get_default_verify_paths()
    if not paths.cafile and not _has_files(paths.capath):
        fields = {
            "file": os.environ.get(paths.openssl_cafile_env, paths.openssl_cafile),
            "directory": os.environ.get(paths.openssl_capath_env, paths.openssl_capath),
        }
        log.warning("tls.no_authorities", extra={"fields": fields})
    return context_for(TlsFiles())


def context_for(files: TlsFiles) -> ssl.SSLContext:
    """Return such a context that trusts and presents what is in `files`.

    Raises OSError (ssl.SSLError among them) or ValueError.
    """
    context = ssl.create_default_context(cafile=None if files.ca_file is None else str(files.ca_file))
    # Not left to the system: Debian's Python takes whatever OpenSSL is configured to take.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if files.client_cert_file is not None:
        context.load_cert_chain(files.client_cert_file, files.client_key_file, password=_refuse_encrypted)
    return context


def _has_files(directory: str | None) -> bool:
    if not directory:
        return False
    try:
        return next(Path(directory).iterdir(), None) is not None
    except OSError:
        return False


def _refuse_encrypted() -> NoReturn:
    # Without this, OpenSSL would ask for a password on the terminal.
    raise ValueError("the private key is encrypted")


def _words(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "they cannot be parsed").replace("_", " ").lower()
    if isinstance(error, OSError):
        return f"{error.strerror or error}".lower()
    return str(error)
