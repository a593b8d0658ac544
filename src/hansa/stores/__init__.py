"""Object stores, one file each, exporting `create`."""
