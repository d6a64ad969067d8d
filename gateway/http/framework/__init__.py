"""Internals of aiohttp, the framework, on which the HTTP interface relies."""
