"""Chinese copy as phrases with places for facts; see ``copy_phrases_en.py`` for the places and the rule.

No absolute terms (the law on advertising names them): nothing here is first, best or only.
"""

from __future__ import annotations

from server.copy_domain import Tone

HEADLINES = (
    "{name} {kind}，{colour}", "{name} {kind} {size}", "{name} {kind}", "{brand} {line}：{colour}{kind}", "{colour} {name} {kind}",
    "{name}｜{material}{kind}", "{line} {kind}，{material}", "{name} {kind}，{size}", "{line} {kind}", "{name}",
)  # fmt: skip
LONG_HEADLINES = (
    "{name} {kind} {colour} {material} {size}", "{name} {kind}，{material}，{colour}，{size}", "{name} {kind} {size} {colour}",
    "{name} {kind} {colour}", "{name} {kind}，{material}", "{name} {kind}",
)  # fmt: skip
SHORT_HEADLINES = (
    "{name} {kind}",
    "{line} {kind}",
    "{colour}{kind}",
    "{kind} {size}",
    "{line} {colour}",
    "{kind}",
    "{name}",
)

OPENERS = {
    Tone.NEUTRAL: (
        "{name} {kind}，{colour}，选用{material}。", "{brand} 的 {line} {kind}，此款为{colour}。", "{brand} 以{material}打造 {line} {kind}。",
        "这是 {name} {kind}，{colour}款。", "{name} {kind}，选用{material}。", "{name} {kind}，来自 {brand}。", "{name} {kind}。",
    ),
    Tone.FRIENDLY: (
        "来认识一下 {name} {kind}，{colour}款。", "想找一款{colour}的{kind}？看看 {name}。", "你好，这是 {brand} 的 {line} {kind}，选用{material}。",
        "为你介绍 {name} {kind}，{colour}。", "为你介绍 {name} {kind}。",
    ),
    Tone.PROFESSIONAL: (
        "{name} {kind}采用{material}，颜色为{colour}。", "{brand} 推出 {line} {kind}，材质为{material}。", "{name} {kind}，现提供{colour}款。",
        "{brand} 推出 {line} {kind}。",
    ),
    Tone.PLAYFUL: (
        "叮咚，{name} {kind}到了，一身{colour}。", "猜猜谁来了？{colour}的 {name} {kind}！", "嘘，{name} {kind}就在这里，{material}做的。",
        "掌声有请 {brand} 的 {line} {kind}！", "看，{name} {kind}来了。",
    ),
}  # fmt: skip
AUDIENCE = ("写给{audience}。", "为{audience}准备的 {name}。", "给{audience}。", "{audience}，看这里。")
FEATURES = (
    "{feature}，{feature2}。", "{feature}，而且{feature2}。", "{feature2}，同时{feature}。", "这款{kind}{feature}，{feature2}。",
    "{feature}。", "{line} {feature}。",
)  # fmt: skip
MEASURES = ("{label}：{size}。", "{label}为 {size}。", "{label} {size}。")
MATERIALS = ("选用{material}。", "材质为{material}。", "{brand} 选用{material}。")
COLOURS = ("颜色为{colour}。", "此款为{colour}。", "{colour}款。")
WARRANTIES = ("质保：{warranty} 个月。", "质保 {warranty} 个月。", "提供 {warranty} 个月质保。")
PRICES = ("售价 {price}。", "价格：{price}。", "售价为 {price}。")
CLOSERS = {
    Tone.NEUTRAL: ("详情见下。", "欢迎选购。", "欢迎了解。"),
    Tone.FRIENDLY: ("欢迎来看看。", "有问题随时问我们。", "一起来看看吧。"),
    Tone.PROFESSIONAL: ("欢迎垂询。", "详情请联系我们。", "欢迎订购。"),
    Tone.PLAYFUL: ("快来瞧瞧。", "购物车在等你。", "点开看看吧。"),
}
BULLETS = {
    "material": ("选用{material}", "材质：{material}"),
    "colour": ("颜色：{colour}", "{colour}款"),
    "size": ("{label}：{size}", "{label} {size}"),
    "features": ("{Feature}",),
    "warranty": ("质保：{warranty} 个月", "质保 {warranty} 个月"),
    "price": ("售价：{price}",),
}
AUDIENCES = (
    "学生", "爱下厨的人", "周末徒步者", "小型办公室", "新手父母", "通勤族", "摄影爱好者", "家庭", "居家办公的人", "养狗的人", "初学者",
    "咖啡爱好者", "常出差的人", "老师", "夜猫子",
)  # fmt: skip


def as_bullet(feature: str) -> str:
    """A feature as a line of its own: as it is."""
    return feature
