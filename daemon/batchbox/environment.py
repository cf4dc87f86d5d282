"""The variables of the process's environment that would send traffic elsewhere or expose it, and their removal.

It imports nothing but the standard library, because it has to run before the SDK is imported: that is when the SDK
reads ANTHROPIC_LOG. ANTHROPIC_API_KEY stays: it is one of the documented places for the key.
"""

import os

DROPPED_VARIABLES = frozenset(
    {
        "ANTHROPIC_LOG",  # "debug" prints prompts (the SDK's source, 2.12: read once, at import)
        "ANTHROPIC_CUSTOM_HEADERS",  # can replace the key and the beta header
        "ANTHROPIC_BASE_URL",
        "ANTHROPIC_AUTH_TOKEN",
        "ANTHROPIC_PROFILE",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "SSLKEYLOGFILE",  # would write the session keys of every connection into a file
        "SSL_CERT_FILE",  # would decide whose servers are trusted; that is the setting `ca_file`
        "SSL_CERT_DIR",
    }
)
"""Dropped in upper, lower and mixed case, because proxies are looked up in any."""


def drop_environment() -> list[str]:
    """Remove DROPPED_VARIABLES from this process's environment and return the names that were there, for the log.

    Call it first of all: before the SDK is imported and before any thread or child is started.
    """
    names = sorted(name for name in os.environ if name.upper() in DROPPED_VARIABLES)
    for name in names:
        del os.environ[name]
    return names
