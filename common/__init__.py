"""What the producer, the consumer and the operator's tools share.

Nothing here knows about Lumen, Sentinel or Azure Functions. This package imports none of the
others, so it can be read and tested alone.
"""
