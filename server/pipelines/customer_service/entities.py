"""What a message names: order numbers, products, days and amounts, each with its place in the text and one spelling.

Orders have the shop's forms (a setting); products are the names that the shop gives, model numbers, and what stands in quotes
behind a word for a thing. An order number is no amount and no day.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from server.pipelines.customer_service.amounts import amounts
from server.pipelines.customer_service.dates import dates
from server.pipelines.customer_service.expressions import unusable
from server.pipelines.product_copy.folding import fold, folded_once
from server.support_domain import Entity, EntityKind

MOST_CHARS = 20_000
MOST_ENTITIES = 50
# Letters and a number ("ORD-10023"), a number after "#", three groups as large marketplaces have.
DEFAULT_ORDER_FORMATS = (
    r"(?:ord|order|so|po|inv|rma|dd|vt|wo|ref)[-_#]?\d{4,12}",
    r"[a-z]{1,4}-\d{5,12}(?:-\d{1,6})?",
    r"#\s?\d{3,12}",
    r"\d{3}-\d{7}-\d{7}",
)
_SAID = re.compile(
    r"(?:order|purchase|parcel|shipment|tracking|invoice|订单|单号|包裹|运单|快递单|发票|采购单)"
    r"(?: ?(?:number|no|num|nr|id|code|ref(?:erence)?|is|was|with|called|the|my|编号|号码?|号|为|是|的|尾号))*[.:：#＃\s]{0,4}"
    r"(?P<number>(?=[a-z0-9-]*\d{3})[a-z0-9][a-z0-9-]{3,24}(?<!-))(?![a-z0-9]|[./]\d)"
)
_DATE_LIKE = re.compile(r"(?:19|20)\d\d-\d{1,2}-\d{1,2}|(?:19|20)\d\d")
_MODEL = re.compile(
    r"(?<![a-z0-9#-])(?=[a-z-]{0,5}\d|sku)[a-z]{1,5}-?\d{2,5}[a-z]{0,4}\d{0,3}(?:-[a-z0-9]{1,6})?(?![a-z0-9-])|(?<![a-z0-9-])sku[-_ ]?\d{1,10}(?![a-z0-9])"
)
_NOT_MODEL = re.compile(
    r"(?:us|eu|uk|rs|cny|usd|eur|gbp|rmb|covid|vat|en|iso|gate|din|ip|pm|am|zip|room|apt|flat|q|w|h|v|x|no|nr)-?\d+"
)
_QUOTED = re.compile(r"\"([^\"\n]{2,60})\"|《([^》\n]{1,60})》|「([^」\n]{2,60})」|【([^】\n]{2,60})】")
_THING = re.compile(
    r"(?:product|item|article|model|called|named|bought|ordered|buy|order|want|sell|have|the|a|return|of|买了?|下单|商品|产品|叫|名为|型号|退|的|要|有|收到)\s{0,2}(?:a |an |the |my |your )?$"
)


@dataclass(frozen=True, slots=True)
class EntityRules:
    """What a shop knows that this file cannot.

    Attributes:
        order_formats: compiled forms of order numbers over folded text.
        products: compiled names of products over folded text; None: no names are known.
        day_first: how 05/03/2026 is read.
    """

    order_formats: tuple[re.Pattern[str], ...]
    products: re.Pattern[str] | None = None
    day_first: bool = True


def entity_rules(
    order_formats: Sequence[str] = DEFAULT_ORDER_FORMATS,
    products: Iterable[str] = (),
    *,
    day_first: bool = True,
) -> EntityRules:
    """Compile a shop's forms and names.

    Args:
        order_formats: regular expressions of a whole order number, capitals or not.
        products: names, of at least three characters.
        day_first: how 05/03/2026 is read.

    Raises:
        ValueError: an expression is wrong; names it and says what to do.
    """
    compiled = []
    for form in order_formats:
        if (wrong := unusable(form)) is not None:
            raise ValueError(f"order number format {wrong}")
        if len(form) > 200:
            raise ValueError(
                f"order number format {form[:40]!r}... has {len(form)} characters; at most 200 are read"
            )
        compiled.append(re.compile(rf"(?<![a-z0-9])(?:{form})(?![a-z0-9])", re.IGNORECASE))
    names = sorted({fold(name).strip() for name in products}, key=len, reverse=True)
    listed = "|".join(re.escape(name) for name in names if len(name) >= 3 or not name.isascii())
    return EntityRules(
        tuple(compiled), re.compile(rf"(?<![a-z0-9])(?:{listed})(?![a-z0-9])") if listed else None, day_first
    )


_DEFAULT = entity_rules()


def find_entities(
    text: str, today: datetime.date | None = None, rules: EntityRules | None = None
) -> tuple[Entity, ...]:
    """What a text names, in its order, none overlapping another.

    Args:
        text: a message; its first ``MOST_CHARS`` characters are read.
        today: that "last Tuesday" is told from; None: the day of this machine's clock.
        rules: of the shop; None: the usual forms and no names.
    """
    rules = _DEFAULT if rules is None else rules
    today = datetime.date.today() if today is None else today
    seen = folded_once(text[:MOST_CHARS])
    taken = [False] * (len(seen.text) + 1)
    out: list[Entity] = []
    for kind, start, end, value in _all(seen.text, today, rules):
        if any(taken[start:end]):
            continue
        taken[start:end] = [True] * (end - start)
        first, last = seen.span(start, end)
        out.append(
            Entity(kind=kind, text=text[first:last], start=first, end=last, value=value or text[first:last])
        )
        if len(out) >= MOST_ENTITIES:
            break
    return tuple(sorted(out, key=lambda one: one.start))


def _all(folded: str, today: datetime.date, rules: EntityRules) -> Iterator[tuple[EntityKind, int, int, str]]:
    money = list(amounts(folded))
    signed = {at for amount in money for at in range(amount.start, amount.end)}
    for form in rules.order_formats:
        for found in form.finditer(folded):
            if found.end() > found.start() and found.start() not in signed:
                yield EntityKind.ORDER_NUMBER, *found.span(), _spelling(found.group())
    for found in _SAID.finditer(folded):
        start, end = found.span("number")
        if start not in signed and not _DATE_LIKE.fullmatch(found["number"]):
            yield EntityKind.ORDER_NUMBER, start, end, _spelling(found["number"])
    for day in dates(folded, today, day_first=rules.day_first):
        yield EntityKind.DATE, *day
    for amount in money:
        yield EntityKind.AMOUNT, amount.start, amount.end, amount.normalized
    if rules.products is not None:
        for found in rules.products.finditer(folded):
            yield EntityKind.PRODUCT, *found.span(), ""
    for found in _QUOTED.finditer(folded):
        if _THING.search(folded, max(0, found.start() - 24), found.start()):
            group = next(at for at in range(1, 5) if found.group(at) is not None)
            yield EntityKind.PRODUCT, *found.span(group), ""
    for found in _MODEL.finditer(folded):
        if not _NOT_MODEL.fullmatch(found.group()):
            yield EntityKind.PRODUCT, *found.span(), found.group().upper()


def _spelling(number: str) -> str:
    return re.sub(r"[\s#_]", "", number).upper()
