"""A shortened name still names the thing: it ends with the noun that the title is named by, or it is the kind or the brand."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.copy_domain import Channel, CopyRequest, Language, ProductRecord, count_words
from server.pipelines.product_copy.checker import RecordChecker, ShopRules
from server.pipelines.product_copy.naming import category_end, same_head, short_name
from server.pipelines.product_copy.noun_phrases import in_list, joined_lists, noun_phrase
from server.pipelines.product_copy.style_rules import StyleRules
from server.pipelines.product_copy.templates import ShopTemplates

# title, brand, its first noun phrase, what an advertisement's headline (30 characters, 6 words) may call it at most
TITLES = (
    ("Norvale 10-Sheet Micro-Cut Paper, CD, and Credit Card Shredder with Pull-Out Basket", "Norvale", "Norvale 10-Sheet Micro-Cut Paper, CD, and Credit Card Shredder", "Norvale Shredder"),
    ("Castellan Living Mobile Height-Adjustable Laptop Cart, Walnut", "Castellan Living", "Castellan Living Mobile Height-Adjustable Laptop Cart", "Castellan Living Laptop Cart"),
    ("Brenholt Large Magnetic Dry Erase Board, 36 x 24 Inches, Aluminum Frame", "Brenholt", "Brenholt Large Magnetic Dry Erase Board", "Brenholt Dry Erase Board"),
    ("Pikwell Extra Heavy Duty Full Strip Desktop Stapler (44120)", "Pikwell", "Pikwell Extra Heavy Duty Full Strip Desktop Stapler", "Pikwell Desktop Stapler"),
    ("Ostrava Low Odor Chisel Tip Whiteboard Markers, Black, Blue, Red, and Green, 12 Count", "Ostrava", "Ostrava Low Odor Chisel Tip Whiteboard Markers", "Ostrava Whiteboard Markers"),
    ("Tessel Fine Point Retractable Gel Pens - 24 Pack", "Tessel", "Tessel Fine Point Retractable Gel Pens", "Tessel Retractable Gel Pens"),
    ("Halden & Rowe Executive Bonded Leather Office Chair for Tall People", "Halden & Rowe", "Halden & Rowe Executive Bonded Leather Office Chair", "Halden & Rowe Office Chair"),
    ("Quillmark Two-Hole Electric Pencil Sharpener with Auto Stop, Blue", "Quillmark", "Quillmark Two-Hole Electric Pencil Sharpener", "Quillmark Pencil Sharpener"),
    ("Duromar Clear Heavyweight Shipping Packing Tape, 1.9 Inches x 60 Yards", "Duromar", "Duromar Clear Heavyweight Shipping Packing Tape", "Duromar Shipping Packing Tape"),
    ("Bexley Stationery Wide Ruled Spiral Notebook 70 Sheets", "Bexley Stationery", "Bexley Stationery Wide Ruled Spiral Notebook", "Bexley Stationery Notebook"),
    ("Fennimore Non-Slip Chair Mat for Low Pile Carpet, 36 x 48 Inch", "Fennimore", "Fennimore Non-Slip Chair Mat", "Fennimore Non-Slip Chair Mat"),
    ("Lintel LX-440 Wireless All-in-One Color Inkjet Printer | Duplex", "Lintel", "Lintel LX-440 Wireless All-in-One Color Inkjet Printer", "Lintel Inkjet Printer"),
    ("Corvid 3 in 1 Document Camera Desk Lamp with Dimmer", "Corvid", "Corvid 3 in 1 Document Camera Desk Lamp", "Corvid Camera Desk Lamp"),
    ("LD-Tone Compatible High Yield Toner Cartridge for Lintel LX-440", "LD-Tone", "LD-Tone Compatible High Yield Toner Cartridge", "LD-Tone Compatible Cartridge"),
    ("Marlow Wooden Toy Rotary Dial Telephone with Bell", "Marlow", "Marlow Wooden Toy Rotary Dial Telephone", "Marlow Toy Dial Telephone"),
    ("Sundry Paper Co. Self-Adhesive Round Label Stickers in Kraft Brown, Roll of 500", "Sundry Paper Co.", "Sundry Paper Co. Self-Adhesive Round Label Stickers", "Sundry Paper Co. Stickers"),
    ("Arden Salt and Pepper Mill, Beech", "Arden", "Arden Salt and Pepper Mill", "Arden Salt and Pepper Mill"),
    ("Set of 4 Cambria Fabric Foldable Under Bed Storage Boxes", "Cambria", "Cambria Fabric Foldable Under Bed Storage Boxes", "Cambria Bed Storage Boxes"),
    ("Pellham Expanding Accordion File Folder Organizer, 13 Pockets, Letter Size", "Pellham", "Pellham Expanding Accordion File Folder Organizer", "Pellham File Folder Organizer"),
    ("Okoro Stainless Steel Vacuum Insulated Travel Mug 16 oz", "Okoro", "Okoro Stainless Steel Vacuum Insulated Travel Mug", "Okoro Insulated Travel Mug"),
    ("Ridley Deluxe Cordless Stapler and Staple Remover", "Ridley", "Ridley Deluxe Cordless Stapler", "Ridley Deluxe Cordless Stapler"),
    ("Veldt Graph Ruled Hardcover Journal in Black, Blue or Red", "Veldt", "Veldt Graph Ruled Hardcover Journal", "Veldt Hardcover Journal"),
    ("Umbria Adjustable Bamboo Monitor Riser Stand; 3 Drawers", "Umbria", "Umbria Adjustable Bamboo Monitor Riser Stand", "Umbria Monitor Riser Stand"),
    ("Grafton Assorted Color Pop-Up Sticky Notes: 12 Pads", "Grafton", "Grafton Assorted Color Pop-Up Sticky Notes", "Grafton Pop-Up Sticky Notes"),
    ("Almanor Weekly / Monthly Wirebound Appointment Planner / Organizer 2031", "Almanor", "Almanor Weekly/Monthly Wirebound Appointment Planner", "Almanor Appointment Planner"),
    ("Stretchwell Natural Rubber Bands Size #33, 1 lb", "Stretchwell", "Stretchwell Natural Rubber Bands", "Stretchwell Rubber Bands"),
    ("得力 A4 加厚双面打印纸 70g 500 张", "得力", "得力 A4 加厚双面打印纸", "得力 A4 加厚双面打印纸"),
    ("云栖便携式可折叠不锈钢旅行电热水壶（1.0 升，白色）", "云栖", "云栖便携式可折叠不锈钢旅行电热水壶", "云栖可折叠不锈钢旅行电热水壶"),
    ("墨客 学生用直液式速干走珠中性笔 0.5mm 黑色 12 支装", "墨客", "墨客 学生用直液式速干走珠中性笔", "墨客 直液式速干走珠中性笔"),
    ("青禾纸张、光盘和信用卡多功能办公家用大容量碎纸机", "青禾", "青禾纸张、光盘和信用卡多功能办公家用大容量碎纸机", "青禾"),
    ("木与山实木的桌面多层文件收纳架，带抽屉", "木与山", "木与山实木的桌面多层文件收纳架", "木与山实木的桌面多层文件收纳架"),
    ("峰谷 可折叠笔记本电脑支架铝合金散热 增高架子通用", "峰谷", "峰谷 可折叠笔记本电脑支架铝合金散热 增高架子", "峰谷 散热 增高架子"),
    ("木与山 A5 商务会议记录本加厚办公 80 张", "木与山", "木与山 A5 商务会议记录本", "木与山 A5 商务会议记录本"),
    ("科屿 27英寸显示器 144赫兹", "科屿", "科屿 27英寸显示器", "科屿 27英寸显示器"),
    ("晨川 适用山联 88A 激光硒鼓 黑色", "晨川", "晨川 适用山联 88A 激光硒鼓", "适用山联 88A 激光硒鼓"),
    ("Lintel 兼容大容量黑色激光打印机硒鼓 LX440", "Lintel", "Lintel 兼容大容量黑色激光打印机硒鼓", "兼容大容量黑色激光打印机硒鼓"),
)  # fmt: skip


def limits(title: str) -> tuple[int, int]:
    return (15, 15) if re.search("[一-鿿]", title) else (30, 6)


@pytest.mark.parametrize(("title", "brand", "phrase", "short"), TITLES, ids=[one[0][:40] for one in TITLES])
def test_a_name_is_cut_before_its_noun_and_not_behind_it(
    title: str, brand: str, phrase: str, short: str
) -> None:
    """The first noun phrase ends with the head; the short name of an advertisement ends there too, or is the brand."""
    chars, words = limits(title)

    assert noun_phrase(title) == phrase
    assert short_name(title, brand, "", chars=chars, words=words, good=lambda _: True) == short
    assert short == brand or same_head(short, title)


@pytest.mark.parametrize(("title", "brand", "phrase", "short"), TITLES, ids=[one[0][:40] for one in TITLES])
@pytest.mark.parametrize("channel", Channel)
def test_headlines_of_the_templates_name_the_product(
    title: str, brand: str, phrase: str, short: str, channel: Channel
) -> None:
    """In every channel and variant, whatever is behind the name."""
    language = Language.ZH if re.search("[一-鿿]", title) else Language.EN
    request = CopyRequest(product=ProductRecord(title=title, brand=brand), language=language, channel=channel)
    for variant in range(3):
        headline = ShopTemplates(ShopRules()).write(request, variant).headline
        head = phrase[-2:] if language is Language.ZH else phrase.split()[-1]
        assert headline == brand or head in headline, headline
        assert not re.search(r"[,、]\s?\w+(?:,|、)?$", headline) or not in_list(title, len(headline)), (
            headline
        )


def test_a_chinese_brand_is_told_in_chinese_copy() -> None:
    """It is held against the rules in the words that will stand around it."""
    product = ProductRecord(title="青禾碎纸机", brand="青禾", category="办公/碎纸机")

    said = ShopTemplates(ShopRules()).write(CopyRequest(product=product, language=Language.ZH), 0)

    assert "品牌：青禾" in said.bullets


def test_where_the_noun_does_not_fit_there_is_the_kind_or_the_brand() -> None:
    """Never a part of a compound or a list."""
    title, brand, *_ = TITLES[0]

    def named(kind: str, chars: int) -> str:
        return short_name(title, brand, kind, chars=chars, words=12, good=lambda _: True)

    assert named("Shredders", 12) == "Shredder"
    assert named("Shredders", 7) == "Norvale"
    assert named("Shredders", 6) == ""
    board = ("Brenholt Magnetic Dry Erase Board", "Brenholt", "Boards")
    assert short_name(*board, chars=15, words=9, good=lambda _: True) == "Dry Erase Board"
    assert short_name(*board, chars=15, words=2, good=lambda _: True) == "Brenholt Boards"
    assert short_name(*board, chars=14, words=9, good=lambda _: True) == "Brenholt"


@pytest.mark.parametrize(
    ("category", "end"),
    [
        ("Office / Paper / Notebooks", "Notebooks"),
        ("Office > Staplers & Punches", ""),
        ("办公用品/打印纸", "打印纸"),
        ("文具、办公", ""),
        ("", ""),
    ],
)
def test_the_kind_is_the_last_part_of_a_category_that_is_one_kind(category: str, end: str) -> None:
    """A shelf of several things names none of them."""
    assert category_end(category) == end


def test_lists_stay_together_and_only_where_they_share_a_noun_do_they_name() -> None:
    """Commas part attributes, too."""
    assert joined_lists(["Norvale Paper", "CD", "and Credit Card Shredder", "Black"]) == [
        "Norvale Paper, CD, and Credit Card Shredder",
        "Black",
    ]
    assert joined_lists(["Gel Pens", "Red", "Blue", "and Green"]) == ["Gel Pens", "Red, Blue, and Green"]
    assert joined_lists(["Desk Organizer", "Pen Holder", "and Phone Stand"])[0] == "Desk Organizer"


BRANDS = st.sampled_from(["Norvale", "Halden & Rowe", "Bexley Stationery", "3Q", "得力", ""])
MODIFIERS = st.lists(
    st.sampled_from(
        ["Heavy Duty", "Extra", "Dry Erase", "Micro-Cut", "Magnetic", "LX-440", "3 in 1", "Compatible", "Fine Point", "12-Inch", "Toy", "Portable",
         "Paper, CD, and Credit Card", "Salt and Pepper", "All-in-One", "Stainless Steel", "8", "Table of Contents", "Map of", "No. 2"]
    ),
    max_size=6, unique=True,
)  # fmt: skip
HEADS = st.sampled_from(
    ["Shredder", "Cart", "Board", "Set", "Markers", "Mug", "Holder", "Wallet", "Zorble", "Tape", "Punch"]
)
TAILS = st.sampled_from(
    ["", " for Left-Handed Writers", " with Lid", ", Black", ", Red, Blue, and Green", " - 12 Pack", " (LX440)", " 16 oz", " | Gift Idea", ", Fine Point, 12 Count"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(BRANDS, MODIFIERS, HEADS, TAILS, st.integers(1, 60), st.integers(1, 8))
def test_the_last_word_of_a_short_name_is_that_of_the_noun_phrase(
    brand: str, modifiers: list[str], head: str, tail: str, chars: int, words: int
) -> None:
    """Or it is the kind, or the brand; within both limits, and nothing in it is new."""
    phrase = " ".join(part for part in (brand, *modifiers, head) if part)
    kind = "Goods"

    shown = short_name(phrase + tail, brand, kind, chars=chars, words=words, good=lambda _: True)

    assert len(shown) <= chars and count_words(shown) <= words
    fallback = {"", kind, brand, f"{brand} {kind}", f"{brand}{kind}"}
    assert shown in fallback or shown.split()[-1] == noun_phrase(phrase + tail).split()[-1]
    assert shown in fallback or set(shown.split()) <= {
        *(phrase + tail).split(),
        *phrase.replace(",", "").split(),
    }
    if shown not in fallback and {"Toy", "Compatible"} & set(noun_phrase(phrase + tail).split()):
        assert {"Toy", "Compatible"} & set(shown.split()), shown


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=80), st.lists(st.sampled_from(["a", "and", ",", "for", "(", "12", "Pen", "of", "、", "和", "笔", "x"]), max_size=12).map(" ".join)),
       st.text(max_size=10), st.integers(0, 40))  # fmt: skip
def test_no_title_is_too_odd(title: str, brand: str, chars: int) -> None:
    """Symbols, separators alone, nothing: an answer within the limit, or none."""
    assert len(short_name(title, brand, "", chars=chars, words=9, good=lambda _: True)) <= chars


@pytest.mark.parametrize(
    ("title", "brand", "phrase", "short"), TITLES[:26], ids=[one[0][:40] for one in TITLES[:26]]
)
def test_a_headline_of_a_model_is_cut_behind_a_noun_phrase_or_not_at_all(
    title: str, brand: str, phrase: str, short: str
) -> None:
    """What begins a title within 20, 30 or 60 characters ends with its noun, or goes on behind it."""
    opened = RecordChecker(CopyRequest(product=ProductRecord(title=title, brand=brand)), StyleRules())
    for chars in (20, 30, 60):
        left = opened.shortened("headline", title, chars=chars, words=10)
        assert left == "" or phrase.split()[-1].strip(",") in left, left
