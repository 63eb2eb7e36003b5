"""What lies in the folder of a lesson, and what its processes tell each other; without torch."""

from __future__ import annotations

LESSON_FILE, RESULT_FILE, FAILURE_FILE, SHARED = "lesson.pt", "result.pt", "failure.txt", "shared"
STEP_MARK = "@step "
OWNER_VARIABLE = "VITRINE_TRAINING_OWNER"  # process id of whoever waits for the result
