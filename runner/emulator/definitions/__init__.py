"""Google's own definitions of its APIs: which version has which method, and what its messages hold.

`data/` is made from Google's discovery documents by `make`; nothing in it is written by hand. `documents` reads it,
`parsing` turns a message's definition into a parser, `checking` holds requests against it before any handler sees them.
"""
