"""The page that shows and repairs: one HTML document with its style and its script inside.

It holds no data, so it needs no key; everything that it shows comes from the operators' API. `page`
puts it together and makes the policy that lets no other script run.
"""
