"""The local cloud: simulators of the services this project talks to, and what starts them.

Nothing here is ever deployed, and nothing here imports the product (``common``, ``producer``,
``consumer``, ``ops``): a simulator that shared the product's code would agree with its bugs.
"""
