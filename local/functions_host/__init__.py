"""A small Functions host: runs a deployed `function_app.py`, unchanged, on the real Python worker.

The worker library (`azure-functions-runtime`) indexes the app and calls its functions; this
package does what the Functions host does around it: settings, queue listeners, timers, HTTP and
the admin endpoints. The worker keeps its registry in a module global, so one process runs one
app: start it with `python -m local.functions_host` or through `process.HostProcess`.

It knows Azure's rules and nothing of the app it runs.
"""
