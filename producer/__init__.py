"""From Lumen to the queue: one sync run at a time, no page read twice without need.

Read `sync` for the run, `lumen` for the API, `indicators` and `chunking` for the two pure
decisions (what is sent, and how it is cut). This package never imports `consumer` or `ops`.
"""
