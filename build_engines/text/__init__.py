"""Text models: pairs to learn from, tokenizer, fine-tuning, and the line from a checkpoint to a published version."""
