"""The instrument side: acquisition servers, the client that calls them, and look-alikes of the vendors."""
