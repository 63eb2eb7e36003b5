"""What the sample shop's own pages say, as examples of its intents: headings and sentences know words that no template has.

Which section belongs to which intent stands here, by page and place: the pages of the languages are parallel, so one table
serves all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from build_engines.data.errors import DataError
from build_engines.data.sample_intents import Language, SampleExample

PAGES = Path(__file__).parent / "sample_pages"
SECTIONS: dict[str, tuple[str, ...]] = {
    "shipping": ("delivery_time", "shipping_cost", "international_shipping", "track_order", "change_address",
                 "delivery_options", "delivery_options", "parcel_problem"),
    "returns": ("return_item", "return_item", "return_item", "return_item", "refund_status", "exchange_item", "wrong_item",
                "cancel_order", "return_item"),
    "warranty": ("warranty_info", "warranty_info", "warranty_info", "warranty_claim", "warranty_claim", "warranty_info",
                 "warranty_claim", "warranty_info"),
    "payment": ("payment_methods", "payment_methods", "payment_problem", "payment_problem", "discount_code", "gift_card",
                "invoice", "price_match", "payment_security"),
    "sizes": ("size_advice", "size_advice", "size_advice", "size_advice", "size_advice", "size_advice", "product_care",
              "product_care", "exchange_item"),
    "account": ("account_access", "account_access", "account_settings", "account_access", "loyalty_points",
                "account_settings", "order_history", "delete_account", "privacy_data"),
    "contact": ("contact_details", "complaint", "store_info", "business_customer", "product_availability",
                "product_reviews", "gift_wrapping", "recycling"),
}  # fmt: skip
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")


def page_examples(languages: Sequence[Language]) -> list[SampleExample]:
    """A heading and each sentence below it, once; a section is a group of its own.

    Raises:
        DataError: a page has other sections than the table.
    """
    return [
        SampleExample(text=text, intent=intent, group=f"{language}/{page}/{place}", language=language)
        for language in languages
        for page, intents in SECTIONS.items()
        for place, (intent, texts) in enumerate(
            zip(intents, page_sections(PAGES / language / f"{page}.md", len(intents)), strict=True)
        )
        for text in texts
    ]


def page_sections(path: Path, wanted: int) -> list[list[str]]:
    """Of each section, its heading and its sentences.

    Raises:
        DataError: the page has another number of sections.
    """
    sections: list[list[str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            sections.append([line[3:].strip()])
        elif line.strip() and sections:
            sections[-1] += [one.strip() for one in _SENTENCE.split(line) if one.strip()]
    if len(sections) != wanted:
        raise DataError(
            path,
            f"has {len(sections)} sections, the table of their intents has {wanted}",
            hint="correct SECTIONS",
        )
    return sections
