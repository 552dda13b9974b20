"""The demo: the whole pipeline on this machine, with a verdict. `python -m local.demo`."""
