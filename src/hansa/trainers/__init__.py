"""Trainers: how a member turns a model and its data into a better model. One file each, exporting `create`."""
