"""The token and the TLS certificates, from the environment.

Python 3.7 syntax and the standard library only: both ends use it. They are in the environment
because a devices file is shared, and other users of a computer can read a command line.
"""

import os

TOKEN_BYTES_LIMIT = 1024  # an unauthenticated connection may not send much more


def token():
    """Return BLUESKY_EM_TOKEN without blanks around it; empty for none.

    `set BLUESKY_EM_TOKEN=word && ...` on Windows leaves a blank at the end.

    Raises:
        ValueError: it is longer than 1 kB, or not UTF-8 text.
    """
    value = os.environ.get("BLUESKY_EM_TOKEN", "").strip()
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError:
        raise ValueError("BLUESKY_EM_TOKEN is not UTF-8 text; use letters and digits") from None
    if size > TOKEN_BYTES_LIMIT:
        raise ValueError(
            "BLUESKY_EM_TOKEN has {} bytes, at most {} are accepted; 32 random bytes are "
            "enough".format(size, TOKEN_BYTES_LIMIT)
        )
    return value


def server_tls():
    """Return the TLS context of a server, or None if BLUESKY_EM_TLS_CERT is not set.

    Raises:
        ValueError: certificate or key cannot be used; the message says which and why.
    """
    certificate, key = _file("BLUESKY_EM_TLS_CERT"), _file("BLUESKY_EM_TLS_KEY")
    if not certificate:
        if key:
            raise ValueError("BLUESKY_EM_TLS_KEY is set without BLUESKY_EM_TLS_CERT: set both")
        return None
    import ssl  # only here: it does not work in every vendor's Python

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key or None, password="")  # never prompts for one
    except OSError as exc:
        raise ValueError(
            "BLUESKY_EM_TLS_CERT={!r} and BLUESKY_EM_TLS_KEY={!r} cannot be used ({}): give two "
            "PEM files, the key without a passphrase; docs/how-to/use-tls.md has the "
            "command".format(certificate, key, exc)
        ) from exc
    return context


def client_tls():
    """Return the TLS context of a client, or None if BLUESKY_EM_TLS_CA is not set.

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
