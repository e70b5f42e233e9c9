"""What a run looks like in Tiled."""
