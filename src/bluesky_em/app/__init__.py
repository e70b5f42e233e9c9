"""The programs: command line, session, demo, live plots, simulated instrument PCs."""
