"""Steps that make a trained model smaller or better: pruned, narrowed, shared, distilled, tuned; for every family."""
