"""The operators' API: JSON answers, the same over HTTP and next to the storage.

`table` lists every operation with its parameters and its function; `answering` finds and calls one.
Nothing here knows Azure Functions: `ops.triggers` is one caller, the command line the other.
"""
