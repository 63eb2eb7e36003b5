"""How the interpreter runs in a server that answers thousands of small requests a second. Units: seconds."""

from __future__ import annotations

import gc
import sys

# Requests leave no cycles behind, so young collections find nothing: make them rare, and full ones rarer.
GC_THRESHOLDS = (50_000, 20, 100)


def tune(switch_interval_s: float) -> None:
    """Set the interpreter up; what was loaded so far is kept out of the collector's rounds."""
    sys.setswitchinterval(switch_interval_s)
    gc.set_threshold(*GC_THRESHOLDS)
    gc.freeze()
