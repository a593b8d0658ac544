"""Schemes: how updates are protected on their way, one file each, exporting `create`."""
