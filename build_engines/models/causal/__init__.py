"""Causal language models: from a checkpoint folder to a packaged graph with its weights beside it."""
