"""Prints the schema: `python -m graphql_api.schema > schema.graphql` after a change."""

import sys

from graphql_api.schema import SCHEMA

sys.stdout.write(SCHEMA.as_str() + "\n")
