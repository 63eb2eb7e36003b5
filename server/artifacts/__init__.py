"""What a published version is, and how one is found, verified, published and rolled back."""
