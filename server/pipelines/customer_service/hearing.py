"""The ``Hearing`` that serves: language, signals, entities and masking by their own modules, with what a shop adds to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from server.copy_domain import Language
from server.pipelines.customer_service.entities import DEFAULT_ORDER_FORMATS, entity_rules, find_entities
from server.pipelines.customer_service.injection import (
    Place,
    find_attempts,
    read_injection_lists,
    without_attempts,
)
from server.pipelines.customer_service.language import answer_language
from server.pipelines.customer_service.masking import mask
from server.pipelines.customer_service.ports import Hearing
from server.pipelines.customer_service.signals import find_signals, read_signal_lists
from server.support_domain import Entity, Signals, Turn


class Ears:
    """See ``Hearing``.

    Args:
        signal_files: a shop's words for what must be heard, of the form of ``data/signals_en.txt``.
        injection_files: a shop's expressions of attempts, of the form of ``data/injections.txt``.
        order_formats: a file with the forms of the shop's order numbers, regular expressions, one a line; such numbers
            are not masked. None: the usual forms.
        product_names: a file with names of products, one a line; None: none are known.

    Raises:
        ValueError: a file cannot be read or holds something wrong; names the file, the line and what to do.
    """

    def __init__(
        self,
        signal_files: Sequence[Path] = (),
        injection_files: Sequence[Path] = (),
        order_formats: Path | None = None,
        product_names: Path | None = None,
    ) -> None:
        self._signals = read_signal_lists(signal_files)
        self._attempts = read_injection_lists(injection_files)
        forms = DEFAULT_ORDER_FORMATS if order_formats is None else _lines(order_formats)
        try:
            self._rules = entity_rules(forms, () if product_names is None else _lines(product_names))
        except ValueError as error:
            raise ValueError(f"{order_formats}: {error}") from error
        # Of the usual forms a telephone number may be one; only the shop's own are sure enough to be shown.
        self._kept = () if order_formats is None else self._rules.order_formats

    def language(self, text: str, turns: Sequence[Turn], locale: str) -> Language:
        """The language to answer in."""
        return answer_language(text, turns, locale)

    def signals(self, text: str) -> Signals:
        """What a person must hear."""
        return find_signals(text, self._signals, self._attempts)

    def instructs(self, text: str) -> bool:
        """Whether stored text gives instructions."""
        return bool(find_attempts(text, Place.DOCUMENT, self._attempts))

    def without_attempts(self, text: str) -> str:
        """A message without the sentences that give instructions."""
        return without_attempts(text, Place.MESSAGE, self._attempts)

    def entities(self, text: str) -> tuple[Entity, ...]:
        """What a text names."""
        return find_entities(text, rules=self._rules)

    def masked(self, text: str) -> str:
        """The text without personal data."""
        return mask(text, self._kept)


def open_hearing(
    signal_files: Sequence[Path] = (),
    injection_files: Sequence[Path] = (),
    order_formats: Path | None = None,
    product_names: Path | None = None,
) -> Hearing:
    """Ears for both languages; see ``Ears`` for what a shop may add."""
    return Ears(signal_files, injection_files, order_formats, product_names)


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as UTF-8 text ({error}); give a readable file") from error
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("# ")]
