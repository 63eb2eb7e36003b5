"""``/v1/product-copy`` and its jobs."""
