"""The tests, as a package: one that is installed with blueapi's packages has the same name."""
