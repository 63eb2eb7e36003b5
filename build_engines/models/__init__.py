"""Models: how they are trained, how their counts are made, and the graph that serves both."""
