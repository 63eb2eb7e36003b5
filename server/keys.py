"""Who may call: API keys, compared in constant time.

Every configured key is compared on every check, with no early exit, so that the time of a refusal says nothing about
which key was nearly right. Both wires ask here, and each guards every path but health.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from server.errors import Unauthenticated

_BEARER = b"bearer "


class Keys:
    """The configured keys; with none, everybody may call."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = tuple(key.encode() for key in keys)
        self.required = bool(self._keys)

    def check(self, authorization: bytes | None, api_key: bytes | None) -> None:
        """Let a caller in, by ``authorization: Bearer KEY`` or ``x-api-key: KEY``.

        Raises:
            Unauthenticated: no key was sent, or none that is configured; says how to send one.
        """
        if not self.required:
            return
        given = _given(authorization, api_key)
        if given is None:
            raise Unauthenticated("no API key; send the header authorization: Bearer KEY, or x-api-key: KEY")
        known = False
        for key in self._keys:
            known |= hmac.compare_digest(key, given)
        if not known:
            raise Unauthenticated(
                "the API key is not known to this server; check which key this shop was given"
            )

    def caller(self, authorization: bytes | None, api_key: bytes | None) -> str:
        """Whose request it is, for fairness: a digest of the key that was let in; empty where none is needed."""
        if not self.required:
            return ""
        return hashlib.sha256(_given(authorization, api_key) or b"").hexdigest()[:16]


def _given(authorization: bytes | None, api_key: bytes | None) -> bytes | None:
    if api_key is None and authorization is not None and authorization[:7].lower() == _BEARER:
        return authorization[7:].strip()
    return api_key
