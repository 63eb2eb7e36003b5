"""The line of a sentence encoder: a checkpoint, and a shop's labelled questions, into a proven engine."""
