"""From the queue to Sentinel: one chunk at a time, each to a recorded outcome.

Read `deliver` for one delivery, `sentinel` for the upload and for the meaning of each answer,
`poison` for messages that the host gave up. This package never imports `producer` or `ops`.
"""
