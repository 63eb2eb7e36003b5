"""A shop's files as compact, checked arrays: logs, catalogues, splits, and the sample shop."""
