"""Load with a verdict: offers a known load to a running server and says whether an objective held.

It knows the server only by its wire, so it can measure any revision, and imports nothing of the project but
the generated gRPC stubs.
"""
