"""What a recipe says about fairness ([gate.fairness]); a part of the gate's section, and of its stage's key.

Units: shares are 0..1; losses are relative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ItemGroups = Literal["popularity", "category", "brand"]
UserGroups = Literal["activity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FairnessPart:
    """What must hold for groups ([gate.fairness]); a limit that is left out is not judged, only reported.

    Attributes:
        item_groups: how items are grouped: "popularity" (head, middle, tail), "category", "brand".
        user_groups: how users are grouped: "activity" (short, middle and long histories).
        min_group: users (or, of item groups, items) that a group needs to be looked at.
        top: ranks that count as shown.
        max_exposure_loss: of a group's share of exposure, relative to the parent's; 0.2: no group loses a fifth.
        min_representation: share of exposure over share of what people chose; 0.5: at least half of it.
        max_group_loss: of a user group's quality, relative to the parent's.
        min_group_quality: a user group's quality over everybody's; 0.6: nobody gets less than 60 % of the average.
    """

    item_groups: tuple[ItemGroups, ...] = ("popularity", "category")
    user_groups: tuple[UserGroups, ...] = ("activity",)
    min_group: int = 30
    top: int = 10
    max_exposure_loss: float | None = None
    min_representation: float | None = None
    max_group_loss: float | None = None
    min_group_quality: float | None = None
