"""What lets a PC in: the token and the TLS certificates, from the environment.

Python 3.7 syntax and the standard library only: both ends use it. The environment, because a
devices file is shared and shown around, and a command line can be read by others.
"""

import os

LONGEST = 1024  # bytes of a token: a stranger may not send much more


def token():
    """Give BLUESKY_EM_TOKEN, without blanks around it; empty for none.

    The blanks, since `set BLUESKY_EM_TOKEN=word && ...` on Windows leaves one at the end.

    Raises:
        ValueError: it is longer than 1 kB, or no text.
    """
    value = os.environ.get("BLUESKY_EM_TOKEN", "").strip()
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError:
        raise ValueError("BLUESKY_EM_TOKEN is no UTF-8 text; take letters and digits") from None
    if size > LONGEST:
        raise ValueError(
            "BLUESKY_EM_TOKEN has {} bytes, at most {} are taken; 32 random ones are plenty".format(
                size, LONGEST
            )
        )
    return value


def server_tls():
    """Give the TLS side of a server, or None if BLUESKY_EM_TLS_CERT is not set.

    Raises:
        ValueError: certificate or key cannot be used; the message says which and why.
    """
    certificate, key = _file("BLUESKY_EM_TLS_CERT"), _file("BLUESKY_EM_TLS_KEY")
    if not certificate:
        if key:
            raise ValueError("BLUESKY_EM_TLS_KEY is set without BLUESKY_EM_TLS_CERT: set both")
        return None
    import ssl  # only here: not every vendor's Python has it in order

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key or None, password="")  # never asks for one
    except OSError as exc:
        raise ValueError(
            "BLUESKY_EM_TLS_CERT={!r} and BLUESKY_EM_TLS_KEY={!r} cannot be used ({}): give two "
            "PEM files, the key without a passphrase; docs/instrument_pcs.md has the "
            "command".format(certificate, key, exc)
        ) from exc
    return context


def client_tls():
    """Give the TLS side of a client, or None if BLUESKY_EM_TLS_CA is not set.

    Raises:
        ValueError: the file of certificates cannot be used.
    """
    authorities = _file("BLUESKY_EM_TLS_CA")
    if not authorities:
        return None
    import ssl

    try:
        context = ssl.create_default_context(cafile=authorities)
    except OSError as exc:
        raise ValueError(
            "BLUESKY_EM_TLS_CA={!r} cannot be used ({}): give a PEM file with the certificates "
            "of the instrument PCs".format(authorities, exc)
        ) from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _file(variable):
    return os.environ.get(variable, "").strip()
