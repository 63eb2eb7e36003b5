"""Models by their tensors: what the open inference protocol (KServe v2, Triton) asks, whatever wire it came by."""
