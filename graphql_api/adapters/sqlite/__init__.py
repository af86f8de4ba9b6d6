"""The stores over SQLite.

``database``  the connections and threads that the stores share; opening, migrating, what SQLite's errors mean
``schema``    the tables, by migrations
``rows``      records as rows
``pages``     the queries for lists
``resources``, ``updates``, ``history``, ``claims``, ``events``, ``requests``, ``keys``  one port each
``probe``     a look that changes nothing
"""
