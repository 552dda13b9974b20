"""What operators see and do, through the app itself, because its storage is private.

Imports only `common`, so that it works while the producer or the consumer is broken.
"""
