"""One adapter a family: what makes a recommender, an encoder or a decoder ``Compressible``."""
