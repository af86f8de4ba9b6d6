"""What schemathesis tries as ids and numbers beside anything: such as mean something here, so that it gets further.

It imports this by the variable SCHEMATHESIS_HOOKS; STACKCAST_TEST_IDS has ids of records that are there.
"""

from __future__ import annotations

import os

import schemathesis
from hypothesis import strategies as st
from schemathesis.graphql import nodes

_IDS = os.environ["STACKCAST_TEST_IDS"].split(",")
_WELL_FORMED = st.text("0123456789abcdef", min_size=24, max_size=24)
_INT = 2**31

schemathesis.graphql.scalar("ID", st.one_of(st.sampled_from(_IDS), _WELL_FORMED, st.text()).map(nodes.String))
schemathesis.graphql.scalar("Int", st.one_of(st.integers(1, 100), st.integers(-_INT, _INT - 1)).map(nodes.Int))
