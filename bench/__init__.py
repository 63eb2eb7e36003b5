"""Every figure that the README quotes, measured by one command (``make bench``) in one run."""
