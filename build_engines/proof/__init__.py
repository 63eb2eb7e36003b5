"""Is what was made smaller as good as before? Paired tests, slices, fairness, and what a version costs where it serves."""
