"""What operators see of the pipeline, through the app itself: its storage is private.

Imports only `common`, so that it works while the producer or the consumer is broken.
"""
