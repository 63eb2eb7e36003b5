"""Who is answered when: the one admission point, and batches formed by deadline on a measured cost.

``cost.py`` and ``policy.py`` are pure; ``dynamic.py`` owns the loop's side and ``engine_thread.py`` the
other; ``admission.py`` stands in front of everything. What the others must provide is in ``runner.py``.

Units: seconds, on the caller's monotonic clock.
"""
