"""Copy for many products at once: from a file to a file, resumable, behind all live traffic."""
