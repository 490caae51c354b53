"""Make the Hub's client send every request once, wait for an answer no longer than told, and ask nothing by itself."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
from huggingface_hub import constants, get_session, hf_raise_for_status, set_client_factory
from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined] # public, by its documentation

from pipeline.errors import RecipeError

TRANSIENT = (408, 425, 429)  # HTTP: may pass by itself, as does what is the server's own fault: 5xx
LIMITS = ("connect", "read", "write", "pool")
_setting = threading.Lock()  # a client that is replaced is closed, whoever is using it


class LostError(httpx2.TransportError):
    """No answer, or one that broke off: the cause says how. The loop of the Hub's client does not know it, and ends."""


class Once(httpx2.Client):
    """A client that tries nothing again: whoever calls decides that, and knows what may have been applied.

    The Hub's client would try some requests six times, others once, and wait as long as a server asks it to.
    """

    def __init__(self, patience: float, hooks: Mapping[str, Any]) -> None:
        super().__init__(event_hooks=dict(hooks), follow_redirects=True, timeout=patience)
        self.patience = patience

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """As in httpx2, but LostError without an answer, and HfHubHTTPError for one that says to try later."""
        # A time-out of None that the Hub's client passes on is meant for ever, not for this client's own.
        limits = request.extensions.get("timeout", {})
        limits = {kind: self.patience if limits.get(kind) is None else limits[kind] for kind in LIMITS}
        request.extensions = {**request.extensions, "timeout": limits}
        try:
            response = super().send(request, **options)
        except httpx2.TransportError as error:
            raise LostError(f"{type(error).__name__}: {error}", request=request) from error
        if is_transient(response.status_code):
            try:
                hf_raise_for_status(response)
            finally:
                response.close()
        return response


def use(patience: float) -> None:
    """Make this process's Hub client send every request once, and end it after this many seconds without a byte.

    It then tells the Hub neither which packages are installed nor which program drives it, does not fetch the list of
    such programs (/api/agent-harnesses), which it would do daily, and hf-xet reports no transfer. Raises RecipeError
    when no client can be made, because of certificates or a proxy in the environment.
    """
    constants.HF_HUB_DISABLE_TELEMETRY = True  # read whenever a request is made
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # hf-xet knows no other way
    with _setting:
        try:
            before = get_session()
        except (OSError, ImportError, ValueError, httpx2.InvalidURL) as error:
            hint = (
                "look at SSL_CERT_FILE, SSL_CERT_DIR, NO_PROXY, HTTPS_PROXY and ALL_PROXY; a socks proxy needs socksio"
            )
            raise RecipeError(f"the Hub's client cannot start: {error}", where="the environment", hint=hint) from error
        if isinstance(before, Once) and before.patience == patience:
            return
        # The hooks of the client's own: they switch it off by HF_HUB_OFFLINE, and count downloads.
        hooks = before.event_hooks
        set_client_factory(lambda: Once(patience, hooks))


def is_transient(status: int) -> bool:
    """Return whether an answer says that the same request may succeed later."""
    return status in TRANSIENT or status >= 500


def seconds_asked(headers: Mapping[str, str]) -> float | None:
    """Return how long an answer asks to wait: by the Hub's rate limit where that is used up, or by Retry-After."""
    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    asked = headers.get("retry-after", "").strip()
    if asked.isdecimal():
        return float(asked)
    try:
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    except ValueError:
        return None  # none, or nothing that HTTP knows
