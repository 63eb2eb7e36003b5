"""The sample shop in English: words under the keys of ``sample_taxonomy.py``, and how a title and a description are put together.

A description says nothing that the product's record does not hold: the checks on generated copy depend on it.
"""

from __future__ import annotations

from collections.abc import Mapping

CATEGORY = {
    "photo": "Photography", "phones": "Phones & Charging", "computing": "Computing", "audio": "Audio",
    "kitchen": "Kitchen", "coffee": "Coffee", "outdoor": "Outdoor", "fitness": "Fitness",
    "skincare": "Skincare", "baby": "Baby", "office": "Office", "pets": "Pets",
}  # fmt: skip
KIND = {
    "mirrorless_camera": "Mirrorless Camera", "camera_lens": "Camera Lens", "tripod": "Tripod",
    "memory_card": "Memory Card", "camera_bag": "Camera Bag", "smartphone": "Smartphone", "phone_case": "Phone Case",
    "screen_protector": "Screen Protector", "power_bank": "Power Bank", "fast_charger": "Fast Charger",
    "laptop": "Laptop", "monitor": "Monitor", "keyboard": "Keyboard", "mouse": "Mouse", "usb_hub": "USB Hub",
    "headphones": "Headphones", "earbuds": "Earbuds", "bluetooth_speaker": "Bluetooth Speaker",
    "turntable": "Turntable", "microphone": "Microphone", "frying_pan": "Frying Pan", "saucepan": "Saucepan",
    "chef_knife": "Chef's Knife", "cutting_board": "Cutting Board", "storage_jar": "Storage Jar",
    "espresso_machine": "Espresso Machine", "coffee_grinder": "Coffee Grinder", "kettle": "Kettle", "mug": "Mug",
    "coffee_beans": "Coffee Beans", "tent": "Tent", "sleeping_bag": "Sleeping Bag", "camping_stove": "Camping Stove",
    "headlamp": "Headlamp", "hiking_backpack": "Hiking Backpack", "yoga_mat": "Yoga Mat",
    "dumbbell_set": "Dumbbell Set", "resistance_bands": "Resistance Bands", "running_shoes": "Running Shoes",
    "water_bottle": "Water Bottle", "face_cleanser": "Face Cleanser", "face_serum": "Face Serum",
    "moisturizer": "Moisturizer", "sunscreen": "Sunscreen", "sheet_mask": "Sheet Masks", "stroller": "Stroller",
    "baby_bottle": "Baby Bottle", "diaper_bag": "Diaper Bag", "baby_blanket": "Baby Blanket", "soft_toy": "Soft Toy",
    "fountain_pen": "Fountain Pen", "notebook": "Notebook", "desk_lamp": "Desk Lamp",
    "desk_organizer": "Desk Organizer", "office_chair": "Office Chair", "dog_bed": "Dog Bed",
    "dog_leash": "Dog Leash", "cat_tree": "Cat Tree", "pet_bowl": "Pet Bowl", "pet_toy": "Pet Toy",
}  # fmt: skip
MATERIAL = {
    "magnesium": "magnesium alloy", "aluminium": "aluminium", "composite": "recycled composite",
    "carbon_fibre": "carbon fibre", "canvas": "waxed canvas", "nylon": "ripstop nylon", "leather": "leather",
    "glass": "tempered glass", "silicone": "silicone", "walnut": "walnut", "bamboo": "bamboo", "steel": "stainless steel",
    "cast_iron": "cast iron", "copper": "copper", "ceramic": "ceramic", "beech": "beech wood", "arabica": "arabica beans",
    "blend": "an arabica and robusta blend", "down": "duck down", "titanium": "titanium", "rubber": "natural rubber",
    "cork": "cork", "cotton": "organic cotton", "wool": "merino wool", "aloe": "aloe vera", "green_tea": "green tea",
    "rosehip": "rosehip oil", "shea": "shea butter",
}  # fmt: skip
COLOUR = {
    "black": "black", "white": "white", "navy": "navy blue", "forest": "forest green", "sand": "sand",
    "grey": "grey", "terracotta": "terracotta", "sky": "sky blue",
}  # fmt: skip
MEASURE = {
    "resolution": "Resolution", "focal_length": "Focal length", "height": "Height", "capacity": "Capacity",
    "volume": "Volume", "size": "Size", "power": "Power", "keys": "Keys", "weight": "Weight", "ports": "Ports",
    "battery": "Battery life", "diameter": "Diameter", "length": "Length", "persons": "Persons",
    "brightness": "Brightness", "thickness": "Thickness", "pieces": "Pieces", "nib": "Nib", "pages": "Pages",
    "compartments": "Compartments", "load": "Maximum load",
}  # fmt: skip
# Each says what a product does, after "It".
FEATURES = {
    "photo": ("is sealed against dust", "packs down small", "is easy to use with gloves", "stays quiet indoors",
              "is ready within a second"),
    "phones": ("fits in a jacket pocket", "is safe to leave plugged in overnight", "shrugs off fingerprints",
               "survives a drop from a table", "comes in packaging without plastic"),
    "computing": ("works with any recent operating system", "sets up without a driver", "stays cool under load",
                  "runs without a sound", "can be repaired with ordinary screws"),
    "audio": ("keeps voices clear", "pairs with two devices at once", "folds flat for travel",
              "can be worn for hours", "has replaceable parts"),
    "kitchen": ("goes from the stove to the table", "is easy to clean", "has a comfortable grip",
                "stacks to save space", "ages well with use"),
    "coffee": ("heats up quickly", "makes little mess", "suits a small kitchen", "keeps flavours clear",
               "comes apart for cleaning"),
    "outdoor": ("keeps dry in steady rain", "packs into its own pouch", "is visible at night",
                "can be mended in the field", "sets up in two minutes"),
    "fitness": ("keeps its grip when wet", "rolls up for travel", "is gentle on joints", "does not smell",
                "suits beginners and regulars"),
    "skincare": ("absorbs quickly", "leaves no film", "is free of perfume", "suits sensitive skin",
                 "comes in a refillable pack"),
    "baby": ("can be machine washed", "folds with one hand", "has no small parts", "is soft to the touch",
             "fits in the boot of a small car"),
    "office": ("keeps a small desk tidy", "lies flat when open", "suits left-handed use", "is easy on the eyes",
               "arrives fully assembled"),
    "pets": ("stands firm on smooth floors", "wipes clean", "stands up to chewing", "is quiet at night",
             "has rounded edges"),
}  # fmt: skip


def title(brand: str, line: str, kind: str, colour: str, size: str) -> str:
    """A product's title."""
    return f"{brand} {line} {KIND[kind]}, {COLOUR[colour]}, {size}"


def description(
    record: Mapping[str, str], features: tuple[str, ...], warranty_months: int, variant: int
) -> str:
    """A product's description, in one of three forms, from its record only."""
    kind, material, colour = (
        KIND[record["kind"]].lower(),
        MATERIAL[record["material"]],
        COLOUR[record["colour"]],
    )
    measure = f"{MEASURE[record['measure']]}: {record['size']}."
    line, first, second = record["line"], features[0], features[1]
    if variant == 0:
        text = f"The {line} from {record['brand']}: {kind} in {colour}, with {material}. It {first} and {second}."
    elif variant == 1:
        text = f"It {first}, and it {second}. {record['brand']} makes the {line} {kind} with {material}, here in {colour}."
    else:
        text = f"{record['brand']} {line}, {kind}. Made with {material}, in {colour}. It {second}; it also {first}."
    return f"{text} {measure} Warranty: {warranty_months} months."
