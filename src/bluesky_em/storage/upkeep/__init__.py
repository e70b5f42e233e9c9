"""Commands that an operator runs on a storage folder."""
