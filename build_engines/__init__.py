"""The offline builder: from a click log to a compressed, proven, published engine."""
