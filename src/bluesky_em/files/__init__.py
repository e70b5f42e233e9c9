"""Files at rest: one module for each kind of file in a storage folder, writing and reading."""
