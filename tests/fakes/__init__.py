"""Our own doubles, each held to the real thing by a contract suite."""
