"""The form of a run in Tiled: its nodes, columns, values and row maps."""
