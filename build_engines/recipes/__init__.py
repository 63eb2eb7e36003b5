"""Recipes that come with the project, found by their name (``run sample_shop``)."""
