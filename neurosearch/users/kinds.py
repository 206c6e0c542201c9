"""The four kinds of users that experiments compare: what holds under one of them is no result."""

from __future__ import annotations

from neurosearch.users.base import Users
from neurosearch.users.cascade import CascadeUsers
from neurosearch.users.mixed import MixedUsers
from neurosearch.users.pbm import PBMUsers
from neurosearch.users.ubm import UBMUsers

KINDS: dict[str, Users] = {
    "position": PBMUsers(),
    "cascade": CascadeUsers(),
    "browsing": UBMUsers(),
    "mixed": MixedUsers(),
}
