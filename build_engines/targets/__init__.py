"""One target a file: what each runtime wants done to the source graph, and how it is checked there."""
