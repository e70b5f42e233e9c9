"""The instruments of this laboratory: one file per microscope.

Copy `two_pc.py`, change hosts and ports, done: `bluesky-em shell --devices <your file>`. Each file
has one function, `devices`, that creates the devices and connects nothing; all files return the
same names, so every plan runs on all of them. Each file has the whole list: copied alone, it works.
"""
