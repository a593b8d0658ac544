"""Schemes: how updates are protected on their way. One file each exports `create`; blobs of secagg have one more."""
