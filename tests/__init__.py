"""Tests mirror the tree; ``tiny.py`` builds the real but tiny model that server tests serve."""
