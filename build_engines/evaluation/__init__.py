"""How good a recommender is, and whether another is as good: ranks, metrics, slices, paired verdicts."""
