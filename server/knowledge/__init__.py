"""A shop's pages: kept in one SQLite file, cut into passages, found by words and by vectors."""
