"""The embedded Tiled server."""
