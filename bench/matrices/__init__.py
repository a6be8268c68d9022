"""The matrices that ship with the suite: one TOML file each, run by name.

May import nothing: it is data.
"""
