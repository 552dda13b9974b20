"""What the pipeline costs and how fast it is, measured on the local cloud: `make bench`.

Times are set against a reference measured in the same run, so that a slow machine moves both;
counts against the least possible or the sequential uploader. The absolute values are for
orientation. Each module measures one thing, by its
`measure`; `table.py` says what a figure is. Nothing here is deployed, and no test asserts a time.
"""
