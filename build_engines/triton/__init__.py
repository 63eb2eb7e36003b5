"""What a fleet of Triton servers loads: graphs that bring their own tables, and a repository laid out for them."""
