"""The addresses in the settings: which are safe to send prompts and a key to, and how they may be shown.

No sentence in here repeats an address, because an address may carry a password.
"""

from ipaddress import ip_address, ip_network
from urllib.parse import SplitResult, urlsplit, urlunsplit

_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


def checked_base_url(url: str) -> str:
    """Return the API's address without a slash at its end. Raises ValueError with a sentence."""
    parts = _split(url)
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user name or password; the key comes from key_file")
    if "?" in url or "#" in url:
        raise ValueError("must not have a query or a fragment; leave out everything from the ? or # on")
    if parts.scheme == "http" and not _is_loopback_host(parts.hostname):
        raise ValueError("must begin with https://; plain http would send the key and the prompts for anyone to read")
    return url.rstrip("/")


def checked_proxy(url: str) -> str:
    """Return the proxy's address, which may be plain http and hold a password. Raises ValueError with a sentence."""
    _split(url)
    return url


def is_loopback(url: str) -> bool:
    """Return whether the address stays on this machine: localhost, 127.0.0.0/8 or ::1."""
    return _is_loopback_host(urlsplit(url).hostname)


def masked(url: str | None) -> str | None:
    """Return the address with its user name and password, if any, replaced by `***`."""
    if url is None:
        return None
    parts = urlsplit(url)
    credentials, at, place = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"***@{place}")) if at or credentials else url


def _split(url: str) -> SplitResult:
    # urlsplit drops line ends and tabs, and others read a backslash as a slash: what we judge must be what is called.
    if "\\" in url or not url.isprintable() or " " in url:
        raise ValueError("must not hold spaces, backslashes or control characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("is not an address; check its host and port") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError("is not an address; write it like https://host or https://host:port")
    return parts


def _is_loopback_host(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        address = ip_address(host or "")
    except ValueError:
        return False
    return any(address in network for network in _LOOPBACK)
