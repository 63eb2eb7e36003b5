"""Choosing the next token: vectorized over the rows of a step, with penalties, constraints and stop strings a row."""
