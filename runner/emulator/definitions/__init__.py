"""Google's own definitions of its APIs: the methods of each version, and the fields of messages.

`make` generates `data/` from Google's discovery documents; nothing in it is written manually. `documents` reads it,
`parsing` creates a parser from a message's definition, and `checking` validates requests before any handler gets them.
"""
