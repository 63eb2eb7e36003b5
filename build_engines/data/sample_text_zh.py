"""The sample shop in Chinese: words under the keys of ``sample_taxonomy.py``, and how a title and a description are put together.

Says exactly what ``sample_text_en.py`` says; brands and lines keep their Latin names, as shops do.
"""

from __future__ import annotations

from collections.abc import Mapping

CATEGORY = {
    "photo": "摄影器材", "phones": "手机与充电", "computing": "电脑外设", "audio": "音频", "kitchen": "厨房用品",
    "coffee": "咖啡", "outdoor": "户外", "fitness": "健身", "skincare": "护肤", "baby": "母婴", "office": "办公文具",
    "pets": "宠物",
}  # fmt: skip
KIND = {
    "mirrorless_camera": "微单相机", "camera_lens": "相机镜头", "tripod": "三脚架", "memory_card": "存储卡",
    "camera_bag": "相机包", "smartphone": "智能手机", "phone_case": "手机壳", "screen_protector": "屏幕保护膜",
    "power_bank": "充电宝", "fast_charger": "快充充电器", "laptop": "笔记本电脑", "monitor": "显示器", "keyboard": "键盘",
    "mouse": "鼠标", "usb_hub": "USB 集线器", "headphones": "头戴式耳机", "earbuds": "入耳式耳机",
    "bluetooth_speaker": "蓝牙音箱", "turntable": "黑胶唱机", "microphone": "麦克风", "frying_pan": "煎锅",
    "saucepan": "汤锅", "chef_knife": "主厨刀", "cutting_board": "砧板", "storage_jar": "储物罐",
    "espresso_machine": "意式咖啡机", "coffee_grinder": "磨豆机", "kettle": "水壶", "mug": "马克杯", "coffee_beans": "咖啡豆",
    "tent": "帐篷", "sleeping_bag": "睡袋", "camping_stove": "露营炉", "headlamp": "头灯", "hiking_backpack": "登山包",
    "yoga_mat": "瑜伽垫", "dumbbell_set": "哑铃套装", "resistance_bands": "弹力带", "running_shoes": "跑鞋",
    "water_bottle": "水瓶", "face_cleanser": "洁面乳", "face_serum": "面部精华", "moisturizer": "保湿霜",
    "sunscreen": "防晒霜", "sheet_mask": "面膜", "stroller": "婴儿推车", "baby_bottle": "奶瓶", "diaper_bag": "妈咪包",
    "baby_blanket": "婴儿毯", "soft_toy": "毛绒玩具", "fountain_pen": "钢笔", "notebook": "笔记本", "desk_lamp": "台灯",
    "desk_organizer": "桌面收纳盒", "office_chair": "办公椅", "dog_bed": "狗窝", "dog_leash": "牵引绳", "cat_tree": "猫爬架",
    "pet_bowl": "宠物碗", "pet_toy": "宠物玩具",
}  # fmt: skip
MATERIAL = {
    "magnesium": "镁合金", "aluminium": "铝", "composite": "再生复合材料", "carbon_fibre": "碳纤维", "canvas": "蜡染帆布",
    "nylon": "防撕裂尼龙", "leather": "皮革", "glass": "钢化玻璃", "silicone": "硅胶", "walnut": "胡桃木", "bamboo": "竹",
    "steel": "不锈钢", "cast_iron": "铸铁", "copper": "铜", "ceramic": "陶瓷", "beech": "榉木", "arabica": "阿拉比卡豆",
    "blend": "阿拉比卡与罗布斯塔拼配豆", "down": "鸭绒", "titanium": "钛", "rubber": "天然橡胶", "cork": "软木",
    "cotton": "有机棉", "wool": "美利奴羊毛", "aloe": "芦荟", "green_tea": "绿茶", "rosehip": "玫瑰果油", "shea": "乳木果油",
}  # fmt: skip
COLOUR = {
    "black": "黑色", "white": "白色", "navy": "藏青色", "forest": "森林绿", "sand": "沙色", "grey": "灰色",
    "terracotta": "陶土色", "sky": "天蓝色",
}  # fmt: skip
MEASURE = {
    "resolution": "分辨率", "focal_length": "焦距", "height": "高度", "capacity": "容量", "volume": "容积", "size": "尺寸",
    "power": "功率", "keys": "按键数", "weight": "重量", "ports": "接口数", "battery": "续航", "diameter": "直径",
    "length": "长度", "persons": "人数", "brightness": "亮度", "thickness": "厚度", "pieces": "片数", "nib": "笔尖",
    "pages": "页数", "compartments": "格数", "load": "最大承重",
}  # fmt: skip
FEATURES = {
    "photo": ("防尘密封", "收纳小巧", "戴手套也好操作", "室内使用安静", "一秒内即可就绪"),
    "phones": ("可放进外套口袋", "可以安心整夜充电", "不易沾指纹", "从桌上跌落也不怕", "采用无塑包装"),
    "computing": ("兼容各种新近操作系统", "无需安装驱动", "高负载下依然凉爽", "运行无声", "用普通螺丝即可维修"),
    "audio": ("人声清晰", "可同时连接两台设备", "可折叠便于旅行", "可连续佩戴数小时", "部件可更换"),
    "kitchen": ("可从灶台直接上桌", "容易清洗", "握感舒适", "可叠放节省空间", "越用越有质感"),
    "coffee": ("加热迅速", "不易弄脏台面", "适合小厨房", "风味清晰", "可拆卸清洗"),
    "outdoor": ("持续降雨中保持干燥", "可收进自带收纳袋", "夜间醒目", "野外可修补", "两分钟即可搭好"),
    "fitness": ("湿水后依然防滑", "可卷起携带", "对关节温和", "没有异味", "新手和老手都适用"),
    "skincare": ("吸收迅速", "不留膜感", "不含香精", "适合敏感肌", "采用可补充装"),
    "baby": ("可机洗", "单手即可折叠", "没有细小零件", "触感柔软", "放得进小车后备箱"),
    "office": ("让小书桌保持整洁", "打开可平放", "适合左手使用", "光线或版面护眼", "到手无需组装"),
    "pets": ("在光滑地面上放得稳", "一擦即净", "耐咬", "夜间安静", "边角圆润"),
}  # fmt: skip


def title(brand: str, line: str, kind: str, colour: str, size: str) -> str:
    """A product's title."""
    return f"{brand} {line} {KIND[kind]} {COLOUR[colour]} {size}"


def description(
    record: Mapping[str, str], features: tuple[str, ...], warranty_months: int, variant: int
) -> str:
    """A product's description, in one of three forms, from its record only."""
    kind, material, colour = KIND[record["kind"]], MATERIAL[record["material"]], COLOUR[record["colour"]]
    brand, line, first, second = record["brand"], record["line"], features[0], features[1]
    if variant == 0:
        text = f"{brand} 的 {line} {kind}，{colour}，选用{material}。{first}，{second}。"
    elif variant == 1:
        text = f"{first}，而且{second}。{brand} 以{material}打造 {line} {kind}，此款为{colour}。"
    else:
        text = f"{brand} {line} {kind}。选用{material}，{colour}。{second}，同时{first}。"
    return f"{text}{MEASURE[record['measure']]}：{record['size']}。质保：{warranty_months} 个月。"
