"""Which recipe serves best within limits: a recipe varied, each variant measured through the line, one point chosen and explained."""
