"""What the templates say around facts, in both languages.

No phrase claims anything, each agrees with singular and plural alike, and none is used without the fact that it needs.

Places: {name} the short title, {the_name} the same with its article, {brand}, {rest} the name without its brand, {audience}.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from server.copy_domain import Channel, Language, Tone
from server.pipelines.product_copy.style_rules import LAST_WORDS

EN, ZH = Language.EN, Language.ZH
OPENERS: Mapping[tuple[Language, Tone], tuple[str, ...]] = {
    (EN, Tone.NEUTRAL): ("At a glance: {name}.", "Introducing {the_name}.", "{name}, in brief.", "On this page: {name}.", "{name}."),
    (EN, Tone.FRIENDLY): ("Meet {the_name}.", "Say hello to {the_name}.", "Please welcome {the_name}.", "Wave hello to {the_name}.", "Meet {name}."),
    (EN, Tone.PROFESSIONAL): (
        "{brand} presents {rest}.", "Please find below the details of {the_name}.", "Product overview: {name}.", "Introducing {the_name}.",
        "Overview: {name}.",
    ),
    (EN, Tone.PLAYFUL): (
        "Psst, have you met {the_name}?", "Ta-da: {name}.", "Guess who is here: {name}.", "Drum roll, please: {name}.", "Hello, {name}!",
    ),
    (ZH, Tone.NEUTRAL): ("为您介绍：{name}。", "本页介绍 {name}。", "一起了解 {name}。", "{name}，详情如下。", "{name}。"),
    (ZH, Tone.FRIENDLY): ("来认识一下 {name}。", "和您聊聊 {name}。", "一起看看 {name} 吧。", "你好，这里是 {name}。", "看看 {name}。"),
    (ZH, Tone.PROFESSIONAL): ("{brand} 推出 {rest}。", "产品概览：{name}。", "现向您介绍 {name}。", "产品信息：{name}。", "{name}，详情如下。"),
    (ZH, Tone.PLAYFUL): ("叮咚，{name} 来了！", "猜猜谁来了？{name}。", "掌声有请：{name}！", "嘘，悄悄介绍：{name}。", "当当当：{name}！"),
}  # fmt: skip
CLOSERS: Mapping[tuple[Language, Tone], tuple[str, ...]] = {
    (EN, Tone.NEUTRAL): ("See the details below.", "Available in our shop.", "Take a look."),
    (EN, Tone.FRIENDLY): ("Come and take a look.", "We are happy to help you choose.", "Have a look today."),
    (EN, Tone.PROFESSIONAL): ("Details on request.", "Order through our shop.", "Contact us for details."),
    (EN, Tone.PLAYFUL): ("Go on, take a look.", "Your basket is waiting.", "Tap, look, smile."),
    (ZH, Tone.NEUTRAL): ("欢迎选购。", "欢迎了解。", "详情请见商品页面。"),
    (ZH, Tone.FRIENDLY): ("欢迎来逛逛。", "有问题随时问我们。", "期待您的光临。"),
    (ZH, Tone.PROFESSIONAL): ("欢迎垂询。", "详情请联系我们。", "欢迎订购。"),
    (ZH, Tone.PLAYFUL): ("快来瞧瞧。", "购物车在等你。", "点开看看吧。"),
}
# A shop's letter begins with a word to its reader, a post with a look.
GREETINGS: Mapping[tuple[Language, Channel], tuple[str, ...]] = {
    (EN, Channel.EMAIL): ("A quick note from our shop.", "Something from our shop for you."),
    (ZH, Channel.EMAIL): ("来自小店的一封短信。", "小店有新消息给您。"),
}
MATERIAL = {EN: ("Made with {value}.", "Material: {value}."), ZH: ("材质：{value}。", "选用{value}。")}
COLOUR = {EN: ("Comes in {value}.", "Here in {value}."), ZH: ("颜色：{value}。", "此款为{value}。")}
FACT = {EN: ("{label}: {value}.",), ZH: ("{label}：{value}。",)}
DETAILS = {EN: ("Details: {value}.", "In short: {value}."), ZH: ("规格：{value}。", "款式：{value}。")}
MADE_BY = {EN: ("By {brand}.", "Brand: {brand}."), ZH: ("品牌：{brand}。", "来自 {brand}。")}
PRICE = {EN: ("Price: {value}.",), ZH: ("售价：{value}。", "价格：{value}。")}
AUDIENCE = {
    EN: ("For {audience}.", "Written with {audience} in mind."),
    ZH: ("写给{audience}。", "给{audience}。"),
}
FEATURES = {EN: ("It {value}.",), ZH: ("{value}。",)}
BRAND_LABEL = {EN: "Brand", ZH: "品牌"}
PRICE_LABEL = {EN: "Price", ZH: "售价"}
COLOUR_NAMES = frozenset(
    ["colour", "color", "colours", "colors", "颜色", "色彩", "colour", "name", "color", "name"]
)
MATERIAL_NAMES = frozenset(["material", "materials", "材质", "材料", "面料"])
FEATURE_NAMES = frozenset(["features", "feature", "特点", "特色", "卖点", "highlights"])
# Labels that a shop's record often has in English, for Chinese copy.
LABELS_ZH: Mapping[str, str] = {
    "colour": "颜色", "color": "颜色", "material": "材质", "capacity": "容量", "volume": "容积", "size": "尺寸", "weight": "重量",
    "net weight": "净重", "width": "宽度", "height": "高度", "depth": "深度", "length": "长度", "diameter": "直径", "thickness": "厚度",
    "power": "功率", "voltage": "电压", "warranty months": "质保月数", "warranty": "质保", "pack size": "件数", "pieces": "片数",
    "pages": "页数", "model": "型号", "series": "系列", "ports": "接口数", "brightness": "亮度", "resolution": "分辨率",
    "battery life": "续航", "screen size": "屏幕尺寸", "storage": "存储", "quantity": "数量", "item number": "货号", "nib": "笔尖",
    "subcategory": "品类", "set of": "套装数量", "cable length": "线长",
}  # fmt: skip


def every_phrase() -> Iterator[str]:
    """All of them, with their places taken out: what copy may say of anything."""
    several = (
        *OPENERS.values(), *CLOSERS.values(), *GREETINGS.values(), *MATERIAL.values(), *COLOUR.values(), *FACT.values(),
        *DETAILS.values(), *MADE_BY.values(), *PRICE.values(), *AUDIENCE.values(), *BRAND_LABEL.values(), *PRICE_LABEL.values(),
    )  # fmt: skip
    for some in several:
        for phrase in (some,) if isinstance(some, str) else some:
            for place in ("{name}", "{the_name}", "{brand}", "{rest}", "{audience}", "{value}", "{label}"):
                phrase = phrase.replace(place, " ")
            yield phrase
    for last in LAST_WORDS.values():
        for pair in last:
            yield from pair
    yield from LABELS_ZH.values()
