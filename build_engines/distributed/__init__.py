"""Training in several processes: the same loop, each process with its part of every batch; started here or by torchrun."""
