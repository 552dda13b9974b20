"""The services that the pipeline talks to: Lumen, Sentinel, Entra and storage, with their faults.

Lumen, Sentinel and Entra are simulators, storage is Azurite behind a proxy. Each of them knows its
service's contract and nothing of the app that calls it, nor of the demo and chaos that use it.
"""
