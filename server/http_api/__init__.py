"""HTTP: the hot paths, FastAPI for the rest, and the connection under both."""
