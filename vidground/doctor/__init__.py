"""Checks of `vidground doctor`: the installation, the machine, and the model on each device.

Each check is a function that yields findings, which a script can also call. Checks import what they
test when they run, so that a library that cannot be imported is one failed check.
"""
