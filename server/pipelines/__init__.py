"""One product a file: requests to batches, batches to answers, and the tier below."""
