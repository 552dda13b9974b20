"""What the producer, the consumer and the operator's tools share.

Nothing here knows about Lumen, Sentinel or Azure Functions: this package imports none of the
others, so each of them can be read, tested and broken without it.
"""
