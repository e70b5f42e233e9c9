"""The experiments of this laboratory: one per file, in a function with the file's name.

Plans take devices as arguments and never import `devices/`.
"""
