"""English copy as phrases with places for facts; a phrase is used only where the record shows every fact it names.

Places: {name} {kind} {kind_lower} {brand} {line} {colour} {material} {label} {label_lower} {size} {feature} {feature2}
{warranty} {price} {audience}; {Feature} is a feature as the start of a bullet. Words between the places say nothing about a product.
"""

from __future__ import annotations

from server.copy_domain import Tone

HEADLINES = (
    "{name} {kind}, {colour}, {size}", "{name} {kind} in {colour}", "{name}: {kind_lower} in {colour}",
    "{name} {kind}, {size}", "{kind} by {brand}: {line}", "{line} {kind} from {brand}", "{name} {kind} with {material}",
    "{name}: {kind_lower} with {material}", "{name} {kind}", "The {name} {kind_lower}", "{line} {kind}", "{name}",
)  # fmt: skip
LONG_HEADLINES = (
    "{name} {kind}, {colour}, {size}, with {material}", "{name} {kind} with {material}, {colour}, {size}",
    "{name} {kind}, {size}, {colour}", "{name} {kind} - {material} - {colour} - {size}", "{name} {kind} with {material}, {colour}",
    "{name} {kind}, {colour}", "{name} {kind} | {size}", "{name} {kind}",
)  # fmt: skip
SHORT_HEADLINES = (
    "{name} {kind}", "{line} {kind}", "{name} in {colour}", "{line} in {colour}", "{line}, {size}", "{name}", "{kind}, {size}", "{kind}",
)  # fmt: skip

OPENERS = {
    Tone.NEUTRAL: (
        "The {name} {kind_lower} comes in {colour} and is made with {material}.", "{name}: {kind_lower} in {colour}, with {material}.",
        "This is the {name}, {kind_lower} in {colour}.", "{brand} makes the {line} {kind_lower} with {material}.",
        "The {line} from {brand} is made with {material}, here in {colour}.", "The {name}: {kind_lower} with {material}.",
        "The {name} {kind_lower}, in {colour}.", "The {line} {kind_lower} comes from {brand}.", "The {name} {kind_lower}.",
    ),
    Tone.FRIENDLY: (
        "Say hello to the {name}, {kind_lower} in {colour}.", "Meet the {name}: {kind_lower} made with {material}.",
        "Looking for something in {colour}? Here is the {name} {kind_lower}.", "Here is the {line} {kind_lower} from {brand}, in {colour}.",
        "Come and meet the {name} {kind_lower}.", "We would like you to meet the {line} from {brand}, {kind_lower} with {material}.",
        "Here is the {name} {kind_lower}.",
    ),
    Tone.PROFESSIONAL: (
        "The {name} {kind_lower} is made with {material} and supplied in {colour}.", "{brand} presents the {line} {kind_lower}, made with {material}.",
        "The {name} {kind_lower} is supplied in {colour}.", "With the {line}, {brand} offers {kind_lower} made with {material}.",
        "{brand} presents the {line} {kind_lower}.",
    ),
    Tone.PLAYFUL: (
        "Knock, knock. It is the {name} {kind_lower}, dressed in {colour}.", "Psst: the {name} {kind_lower} is here, in {colour}.",
        "Plot twist: {kind_lower} made with {material}. It is the {name}.", "Roll the drums for the {line} {kind_lower} from {brand}.",
        "Hello, {colour}! Hello, {name} {kind_lower}!", "Look who is here: the {name} {kind_lower}.",
    ),
}  # fmt: skip
AUDIENCE = (
    "For {audience}: the {name}.",
    "Written with {audience} in mind.",
    "One for {audience}.",
    "For {audience}.",
)
FEATURES = (
    "It {feature} and {feature2}.", "It {feature}, and it {feature2}.", "The {line} {feature}. It also {feature2}.",
    "It {feature2}; it also {feature}.", "It {feature}.", "The {line} {feature}.", "The {name} {feature}.",
)  # fmt: skip
MEASURES = (
    "{label}: {size}.", "Its {label_lower}: {size}.", "{label}, {size}.", "In numbers: {label_lower} {size}.",
)  # fmt: skip
MATERIALS = ("Made with {material}.", "{brand} makes it with {material}.", "The material: {material}.")
COLOURS = ("It comes in {colour}.", "The colour: {colour}.", "Here in {colour}.")
WARRANTIES = ("Warranty: {warranty} months.", "{warranty} months of warranty.", "The warranty runs for {warranty} months.",
              "It comes with {warranty} months of warranty.")  # fmt: skip
PRICES = ("Price: {price}.", "Yours for {price}.", "It costs {price}.", "At {price}.")
CLOSERS = {
    Tone.NEUTRAL: ("See the details below.", "Available in our shop.", "Take a look."),
    Tone.FRIENDLY: ("Come and take a look.", "We are happy to help you choose.", "Have a look today."),
    Tone.PROFESSIONAL: ("Details on request.", "Order through our shop.", "Contact us for details."),
    Tone.PLAYFUL: ("Go on, take a look.", "Your basket is waiting.", "Tap, look, smile."),
}
BULLETS = {
    "material": ("Made with {material}", "Material: {material}", "With {material}"),
    "colour": ("Colour: {colour}", "Comes in {colour}", "In {colour}"),
    "size": ("{label}: {size}", "{label} {size}"),
    "features": ("{Feature}", "It {feature}"),
    "warranty": ("Warranty: {warranty} months", "{warranty} months of warranty"),
    "price": ("Price: {price}",),
}
AUDIENCES = (
    "students", "home cooks", "weekend hikers", "small offices", "new parents", "commuters", "photographers", "families",
    "people who work from home", "dog owners", "beginners", "coffee lovers", "anyone who travels", "teachers", "night owls",
)  # fmt: skip


def as_bullet(feature: str) -> str:
    """A feature ("is easy to clean") as the start of a line ("Easy to clean")."""
    for verb in ("is ", "has "):
        feature = feature.removeprefix(verb)
    return feature[:1].upper() + feature[1:]
