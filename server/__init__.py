"""The serving layer: the only code in the runtime image; imports no builder, no torch."""
