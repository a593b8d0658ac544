"""Trainers: how a member makes a model better on its data. One file each, exporting `create`."""
