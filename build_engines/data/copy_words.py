"""Words that the sample shop does not have, for records told otherwise: a model that knows the shop by heart fails on them.

By language. Features say what a product does, after "It" in English, like the shop's own.
"""

from __future__ import annotations

from collections.abc import Mapping

from server.copy_domain import Language

KINDS: Mapping[Language, tuple[str, ...]] = {
    Language.EN: (
        "Backpack", "Bath Towel", "Bookend", "Bread Bin", "Card Holder", "Clock Radio", "Colander", "Craft Scissors", "Curtain",
        "Desk Fan", "Door Mat", "Duvet", "Egg Timer", "Envelope", "File Folder", "Flower Pot", "Garden Hose", "Gel Pen",
        "Hair Dryer", "Hand Saw", "Hand Soap", "Highlighter", "Ink Cartridge", "Ironing Board", "Jigsaw Puzzle", "Label Maker",
        "Laundry Basket", "Lunch Box", "Mailing Box", "Measuring Tape", "Milk Frother", "Mirror", "Packing Tape", "Paper Clip",
        "Paper Shredder", "Photo Frame", "Picnic Blanket", "Pillow", "Pocket Calculator", "Printer", "Projector", "Rain Jacket",
        "Router", "Scanner", "Screwdriver", "Shelf", "Shower Head", "Skipping Rope", "Snack Bowl", "Spice Rack", "Stapler",
        "Sticky Notes", "Sun Hat", "Table Lamp", "Tea Pot", "Toaster", "Tool Box", "Umbrella", "Vacuum Flask", "Wall Calendar",
        "Waste Bin", "Watch Strap", "Whiteboard", "Wine Glass", "Wool Socks", "Writing Desk",
    ),
    Language.ZH: (
        "双肩包", "浴巾", "书立", "面包箱", "卡包", "闹钟", "沥水篮", "剪刀", "窗帘", "台式风扇", "地垫", "羽绒被", "计时器", "信封", "文件夹",
        "花盆", "水管", "中性笔", "吹风机", "手锯", "洗手液", "荧光笔", "墨盒", "熨衣板", "拼图", "标签机", "洗衣篮", "饭盒", "快递箱", "卷尺",
        "奶泡机", "镜子", "胶带", "回形针", "碎纸机", "相框", "野餐垫", "枕头", "计算器", "打印机", "投影仪", "雨衣", "路由器", "扫描仪", "螺丝刀",
        "置物架", "花洒", "跳绳", "零食碗", "调料架", "订书机", "便利贴", "遮阳帽", "床头灯", "茶壶", "烤面包机", "工具箱", "雨伞", "保温瓶", "挂历",
        "垃圾桶", "表带", "白板", "红酒杯", "羊毛袜", "书桌",
    ),
}  # fmt: skip
COLOURS: Mapping[Language, tuple[str, ...]] = {
    Language.EN: (
        "amber", "apricot", "beige", "blue", "bright yellow", "brown", "burgundy", "charcoal", "chestnut", "clear", "coral", "cream",
        "dark green", "gold", "green", "ivory", "khaki", "lavender", "light blue", "lilac", "lime", "magenta", "maroon", "mint",
        "mustard", "olive", "orange", "pink", "plum", "purple", "red", "rose", "royal blue", "rust", "silver", "slate", "teal",
        "turquoise", "violet", "yellow",
    ),
    Language.ZH: (
        "琥珀色", "杏色", "米色", "蓝色", "亮黄色", "棕色", "酒红色", "炭黑色", "栗色", "透明", "珊瑚色", "奶油色", "墨绿色", "金色", "绿色", "象牙白",
        "卡其色", "薰衣草紫", "浅蓝色", "丁香紫", "青柠色", "洋红色", "枣红色", "薄荷绿", "芥末黄", "橄榄绿", "橙色", "粉色", "梅子色", "紫色", "红色",
        "玫瑰色", "宝蓝色", "铁锈红", "银色", "石板灰", "水鸭色", "绿松石色", "紫罗兰色", "黄色",
    ),
}  # fmt: skip
MATERIALS: Mapping[Language, tuple[str, ...]] = {
    Language.EN: (
        "acrylic", "alpaca wool", "ash wood", "brass", "bronze", "cardboard", "cashmere", "chrome steel", "concrete", "crystal",
        "denim", "enamel", "faux leather", "felt", "flannel", "foam", "granite", "hemp", "iron", "jute", "latex", "linen", "maple",
        "marble", "mesh", "microfibre", "oak", "paper", "pine", "plastic", "plywood", "polyester", "porcelain", "rattan", "recycled paper",
        "rice husk", "satin", "slate", "straw", "suede", "teak", "velvet", "vinyl", "wax", "zinc",
    ),
    Language.ZH: (
        "亚克力", "羊驼毛", "白蜡木", "黄铜", "青铜", "纸板", "羊绒", "铬钢", "混凝土", "水晶", "牛仔布", "珐琅", "人造革", "毛毡", "法兰绒", "海绵",
        "花岗岩", "麻", "铁", "黄麻", "乳胶", "亚麻", "枫木", "大理石", "网布", "超细纤维", "橡木", "纸", "松木", "塑料", "胶合板", "涤纶", "瓷", "藤编",
        "再生纸", "稻壳", "缎面", "石板", "稻草", "绒面革", "柚木", "天鹅绒", "乙烯基", "蜂蜡", "锌",
    ),
}  # fmt: skip
FEATURES: Mapping[Language, tuple[str, ...]] = {
    Language.EN: (
        "attaches with two screws", "can be cut to length", "can be hung on a wall", "can be refilled", "closes with a zip",
        "comes with a lid", "comes with a spare bulb", "dries in an hour", "fits a standard drawer", "fits most printers",
        "folds in half", "glides on any paper", "has a long handle", "has a magnetic clasp", "has an inner pocket", "has four wheels",
        "has a matt surface", "has a non-slip base", "holds ten sheets", "is dishwasher safe", "is easy to grip", "is easy to read",
        "is light to carry", "is made in small batches", "is scented with lavender", "is soft on the skin", "keeps drinks warm",
        "keeps papers flat", "locks with a key", "opens with one press", "peels off cleanly", "prints on both sides",
        "reclines in three steps", "rotates all the way round", "runs on two batteries", "shuts itself off", "stands upright",
        "stays sharp", "stops paper jams", "turns down at night", "washes at low heat", "works in the rain",
    ),
    Language.ZH: (
        "两颗螺丝即可安装", "可按需裁剪", "可以挂墙", "可重复加注", "拉链开合", "附带盖子", "附赠备用灯泡", "一小时晾干", "放得进标准抽屉", "适配多数打印机",
        "可对折", "书写顺滑", "手柄加长", "磁吸扣合", "带内袋", "带四个轮子", "哑光表面", "底部防滑", "可装十张纸", "可进洗碗机", "容易抓握", "读数清楚",
        "轻便易携", "小批量制作", "薰衣草香", "亲肤", "保温", "让纸张平整", "可用钥匙上锁", "一按即开", "撕下不留痕", "可双面打印", "三档后仰", "可旋转一周",
        "使用两节电池", "自动断电", "可立放", "持久锋利", "防止卡纸", "夜间自动调暗", "可低温清洗", "雨天可用",
    ),
}  # fmt: skip
