"""Ids, catalogues and tables: what stands between a request and the arrays of an engine."""
