"""Who is answered when: the one admission point, and batches formed by deadline on a measured cost.

``cost.py`` and ``policy.py`` are pure; ``dynamic.py`` owns the loop's side and ``engine_thread.py`` the
other; ``admission.py`` stands in front of everything. What the others must provide is in ``runner.py``.

Texts are batched step by step: ``token_schedule.py`` decides (pure), ``text_lane.py`` computes on the engine's thread, and
``continuous.py`` is the loop's side. What is served is a ``text_model.TextModel``.

Units: seconds, on the caller's monotonic clock.
"""
