"""The instrument side: acquisition servers, their client, look-alikes of vendor modules."""
