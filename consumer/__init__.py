"""From the queue to Sentinel: one chunk at a time, each to an outcome that is written down.

Read `deliver` for one delivery, `sentinel` for the upload and the table that decides what an
answer means, `poison` for what the host gave up. This package never imports `producer` or `ops`.
"""
