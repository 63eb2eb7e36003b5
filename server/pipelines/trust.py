"""Whose versions this server believes, as its settings say."""

from __future__ import annotations

from server.artifacts.signatures import TrustedKeys
from server.setting_values import PREFIX
from server.settings import Settings


def trusted_keys(settings: Settings) -> TrustedKeys | None:
    """The keys; None: nobody is asked to sign.

    Raises:
        ValueError: an entry is no key, or the library is missing; names the setting.
    """
    if not settings.trusted_keys:
        return None
    try:
        return TrustedKeys.read(settings.trusted_keys)
    except ValueError as error:
        raise ValueError(f"{PREFIX}TRUSTED_KEYS: {error}") from error
