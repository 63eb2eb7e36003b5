"""A shop's rules and templates, opened from its own file; what whoever puts a server or a bulk run together asks for."""

from __future__ import annotations

from pathlib import Path

from server.pipelines.product_copy.checker import ShopRules
from server.pipelines.product_copy.style_rules import StyleRules, read_style
from server.pipelines.product_copy.templates import ShopTemplates


def open_rules(style: Path | None) -> tuple[ShopRules, ShopTemplates]:
    """The rules of a shop and the templates that keep them.

    Args:
        style: TOML or JSON file with its own rules; None: it has none.

    Raises:
        BadStyleFile: the file cannot be used.
    """
    rules = ShopRules(StyleRules() if style is None else read_style(style))
    return rules, ShopTemplates(rules)
