"""What clients of servers on this machine need."""

from __future__ import annotations

import ssl

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For `verify`: it trusts nobody. To load the certificates of the web for each client takes 30 ms of processor time."""
