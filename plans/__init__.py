"""What we measure: one experiment per file, in a function that bears the file's name.

Plans take devices as arguments and never import `devices/`.
"""
