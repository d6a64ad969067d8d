"""The HTTP interface (aiohttp)."""
