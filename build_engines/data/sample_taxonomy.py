"""What the sample shop sells and what goes with what: keys and numbers, no words.

Words stand in ``sample_text_en.py`` and ``sample_text_zh.py`` under the same keys, so that both
languages say the same things about a product; a test holds the three files together.

Units: prices are in the shop's currency, for a middle-tier brand.
"""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """One kind of product.

    Attributes:
        category: key of its category.
        price: typical price.
        materials: keys of what it may be made of.
        measure: key of what its ``sizes`` measure.
        sizes: written the same way in every language.
    """

    category: str
    price: float
    materials: tuple[str, ...]
    measure: str
    sizes: tuple[str, ...]


KINDS: dict[str, Kind] = {
    "mirrorless_camera": Kind(
        "photo", 900, ("magnesium", "aluminium"), "resolution", ("20 MP", "24 MP", "33 MP", "45 MP")
    ),
    "camera_lens": Kind(
        "photo", 450, ("aluminium", "composite"), "focal_length", ("24 mm", "35 mm", "50 mm", "85 mm")
    ),
    "tripod": Kind("photo", 90, ("carbon_fibre", "aluminium"), "height", ("130 cm", "150 cm", "170 cm")),
    "memory_card": Kind("photo", 30, ("composite",), "capacity", ("64 GB", "128 GB", "256 GB", "512 GB")),
    "camera_bag": Kind("photo", 70, ("canvas", "nylon", "leather"), "volume", ("6 L", "12 L", "20 L")),
    "smartphone": Kind("phones", 600, ("aluminium", "glass"), "capacity", ("128 GB", "256 GB", "512 GB")),
    "phone_case": Kind(
        "phones", 20, ("silicone", "leather", "composite"), "size", ("6.1 in", "6.4 in", "6.7 in")
    ),
    "screen_protector": Kind("phones", 12, ("glass",), "size", ("6.1 in", "6.4 in", "6.7 in")),
    "power_bank": Kind(
        "phones", 40, ("aluminium", "composite"), "capacity", ("5000 mAh", "10000 mAh", "20000 mAh")
    ),
    "fast_charger": Kind("phones", 25, ("composite",), "power", ("20 W", "30 W", "45 W", "65 W")),
    "laptop": Kind("computing", 1000, ("aluminium", "magnesium"), "size", ("13 in", "14 in", "16 in")),
    "monitor": Kind("computing", 280, ("aluminium", "composite"), "size", ("24 in", "27 in", "32 in")),
    "keyboard": Kind("computing", 80, ("aluminium", "composite"), "keys", ("68", "84", "104")),
    "mouse": Kind("computing", 45, ("composite", "aluminium"), "weight", ("63 g", "80 g", "105 g")),
    "usb_hub": Kind("computing", 40, ("aluminium", "composite"), "ports", ("4", "7", "10")),
    "headphones": Kind(
        "audio", 150, ("leather", "composite", "aluminium"), "battery", ("30 h", "40 h", "60 h")
    ),
    "earbuds": Kind("audio", 90, ("composite", "silicone"), "battery", ("6 h", "8 h", "10 h")),
    "bluetooth_speaker": Kind(
        "audio", 80, ("nylon", "walnut", "aluminium"), "power", ("10 W", "20 W", "40 W")
    ),
    "turntable": Kind(
        "audio", 250, ("walnut", "bamboo", "aluminium"), "weight", ("4.5 kg", "5.8 kg", "7.2 kg")
    ),
    "microphone": Kind("audio", 110, ("steel", "aluminium"), "weight", ("300 g", "450 g", "600 g")),
    "frying_pan": Kind(
        "kitchen", 45, ("cast_iron", "steel", "aluminium"), "diameter", ("20 cm", "24 cm", "28 cm")
    ),
    "saucepan": Kind("kitchen", 50, ("steel", "copper", "aluminium"), "volume", ("1 L", "2 L", "3 L")),
    "chef_knife": Kind("kitchen", 60, ("steel", "ceramic"), "length", ("16 cm", "20 cm", "24 cm")),
    "cutting_board": Kind(
        "kitchen", 25, ("bamboo", "walnut", "beech"), "length", ("30 cm", "40 cm", "50 cm")
    ),
    "storage_jar": Kind("kitchen", 15, ("glass", "ceramic"), "volume", ("0.5 L", "1 L", "2 L")),
    "espresso_machine": Kind("coffee", 350, ("steel", "aluminium"), "volume", ("1.2 L", "1.8 L", "2.3 L")),
    "coffee_grinder": Kind("coffee", 120, ("steel", "ceramic"), "capacity", ("25 g", "40 g", "250 g")),
    "kettle": Kind("coffee", 60, ("steel", "copper", "glass"), "volume", ("0.6 L", "1 L", "1.5 L")),
    "mug": Kind("coffee", 14, ("ceramic", "glass", "steel"), "volume", ("200 ml", "300 ml", "400 ml")),
    "coffee_beans": Kind("coffee", 16, ("arabica", "blend"), "weight", ("250 g", "500 g", "1 kg")),
    "tent": Kind("outdoor", 220, ("nylon", "canvas"), "persons", ("1", "2", "3", "4")),
    "sleeping_bag": Kind("outdoor", 110, ("down", "nylon"), "length", ("185 cm", "200 cm", "215 cm")),
    "camping_stove": Kind("outdoor", 60, ("steel", "titanium"), "weight", ("90 g", "180 g", "350 g")),
    "headlamp": Kind("outdoor", 35, ("composite", "aluminium"), "brightness", ("200 lm", "400 lm", "800 lm")),
    "hiking_backpack": Kind("outdoor", 130, ("nylon", "canvas"), "volume", ("30 L", "45 L", "60 L")),
    "yoga_mat": Kind("fitness", 35, ("rubber", "cork"), "thickness", ("4 mm", "6 mm", "8 mm")),
    "dumbbell_set": Kind("fitness", 90, ("cast_iron", "rubber"), "weight", ("10 kg", "20 kg", "30 kg")),
    "resistance_bands": Kind("fitness", 20, ("rubber", "cotton"), "length", ("60 cm", "120 cm", "200 cm")),
    "running_shoes": Kind("fitness", 100, ("nylon", "rubber"), "size", ("EU 38", "EU 40", "EU 42", "EU 44")),
    "water_bottle": Kind(
        "fitness", 22, ("steel", "glass", "titanium"), "volume", ("500 ml", "750 ml", "1 L")
    ),
    "face_cleanser": Kind("skincare", 18, ("aloe", "green_tea"), "volume", ("100 ml", "150 ml", "200 ml")),
    "face_serum": Kind("skincare", 32, ("rosehip", "green_tea"), "volume", ("20 ml", "30 ml", "50 ml")),
    "moisturizer": Kind("skincare", 28, ("shea", "aloe"), "volume", ("50 ml", "75 ml", "100 ml")),
    "sunscreen": Kind("skincare", 22, ("aloe", "green_tea"), "volume", ("50 ml", "100 ml", "200 ml")),
    "sheet_mask": Kind("skincare", 12, ("cotton", "bamboo"), "pieces", ("5", "10", "20")),
    "stroller": Kind("baby", 260, ("aluminium", "steel"), "weight", ("6 kg", "8 kg", "11 kg")),
    "baby_bottle": Kind("baby", 14, ("glass", "silicone"), "volume", ("120 ml", "180 ml", "240 ml")),
    "diaper_bag": Kind("baby", 55, ("canvas", "nylon", "leather"), "volume", ("12 L", "18 L", "24 L")),
    "baby_blanket": Kind("baby", 28, ("cotton", "wool", "bamboo"), "length", ("75 cm", "100 cm", "120 cm")),
    "soft_toy": Kind("baby", 18, ("cotton", "wool"), "height", ("20 cm", "30 cm", "45 cm")),
    "fountain_pen": Kind("office", 40, ("steel", "walnut", "aluminium"), "nib", ("F", "M", "B")),
    "notebook": Kind("office", 12, ("leather", "canvas", "cotton"), "pages", ("96", "160", "240")),
    "desk_lamp": Kind(
        "office", 45, ("aluminium", "bamboo", "steel"), "brightness", ("400 lm", "600 lm", "900 lm")
    ),
    "desk_organizer": Kind("office", 24, ("bamboo", "steel", "walnut"), "compartments", ("4", "6", "9")),
    "office_chair": Kind("office", 190, ("nylon", "leather"), "load", ("110 kg", "130 kg", "150 kg")),
    "dog_bed": Kind("pets", 55, ("cotton", "canvas", "wool"), "length", ("60 cm", "80 cm", "110 cm")),
    "dog_leash": Kind("pets", 20, ("nylon", "leather", "cotton"), "length", ("120 cm", "180 cm", "300 cm")),
    "cat_tree": Kind("pets", 90, ("beech", "bamboo"), "height", ("90 cm", "130 cm", "170 cm")),
    "pet_bowl": Kind("pets", 16, ("steel", "ceramic"), "volume", ("0.3 L", "0.8 L", "1.5 L")),
    "pet_toy": Kind("pets", 12, ("rubber", "cotton", "wool"), "length", ("10 cm", "18 cm", "30 cm")),
}
CATEGORIES = tuple(dict.fromkeys(kind.category for kind in KINDS.values()))
COLOURS = ("black", "white", "navy", "forest", "sand", "grey", "terracotta", "sky")
FEATURES_PER_CATEGORY = 5

# What shoppers set out to do: kinds in the order in which they are usually looked for.  Some kinds are in several,
# so what comes after a memory card depends on what came before it.
MISSIONS: tuple[tuple[str, ...], ...] = (
    ("mirrorless_camera", "camera_lens", "memory_card", "tripod", "camera_bag"),
    ("smartphone", "phone_case", "screen_protector", "fast_charger", "power_bank"),
    ("smartphone", "tripod", "microphone", "memory_card"),
    ("laptop", "monitor", "keyboard", "mouse", "usb_hub"),
    ("laptop", "desk_lamp", "office_chair", "desk_organizer", "notebook"),
    ("turntable", "bluetooth_speaker", "headphones"),
    ("earbuds", "power_bank", "water_bottle", "running_shoes"),
    ("microphone", "headphones", "usb_hub", "monitor"),
    ("frying_pan", "saucepan", "chef_knife", "cutting_board", "storage_jar"),
    ("espresso_machine", "coffee_grinder", "coffee_beans", "mug"),
    ("kettle", "coffee_grinder", "coffee_beans", "storage_jar"),
    ("tent", "sleeping_bag", "camping_stove", "headlamp", "hiking_backpack"),
    ("running_shoes", "water_bottle", "hiking_backpack", "headlamp"),
    ("yoga_mat", "resistance_bands", "dumbbell_set", "water_bottle"),
    ("face_cleanser", "face_serum", "moisturizer", "sunscreen", "sheet_mask"),
    ("stroller", "diaper_bag", "baby_bottle", "baby_blanket", "soft_toy"),
    ("fountain_pen", "notebook", "desk_lamp", "desk_organizer"),
    ("dog_bed", "pet_bowl", "dog_leash", "pet_toy"),
    ("cat_tree", "pet_bowl", "pet_toy"),
)

# Invented names; a brand's place in the list gives its style and its tier.
BRANDS = (
    "Alderwick", "Brimora", "Caskell", "Dovelin", "Elvana", "Fernholt", "Gravelle", "Havenlow",
    "Ironby", "Juniva", "Kestrin", "Lumora", "Marrow & Finch", "Norvane", "Ostrel", "Pellmere",
    "Quillon", "Rookhurst", "Solvane", "Tamberly", "Umbrel", "Vantora", "Wrenfield", "Yarrowby",
    "Zephrin", "Ashcombe", "Birchline", "Corvale", "Dunmere", "Eastlow", "Fjellby", "Glenora",
    "Hollin", "Inverlow", "Jasperly", "Kilnworth", "Larkmoor", "Mossby", "Nettlecombe", "Orlen & Daughters",
    "Pinehollow", "Quarrystone", "Ridgeway Nine", "Saltmarsh", "Thornby", "Undercliff", "Velden", "Westerlin",
)  # fmt: skip
STYLES = 8
TIERS = 3
TIER_PRICE = (0.6, 1.0, 1.8)
LINES = (
    "Aria", "Basalt", "Cedar", "Drift", "Ember", "Fable", "Grove", "Harbor", "Iris", "Juno", "Kite", "Lark",
    "Mesa", "Nova", "Onyx", "Prism", "Quest", "Ridge", "Slate", "Terra", "Umber", "Vista", "Willow", "Zenith",
)  # fmt: skip
