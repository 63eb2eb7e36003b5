"""``/v1/knowledge``: the shop's pages in and out."""
