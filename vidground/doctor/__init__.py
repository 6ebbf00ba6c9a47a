"""What `vidground doctor` checks: the installation, the machine, and the model on its devices.

Each check is a function that returns findings, so that a script can run it alone. Importing this
package loads no torch; checks import what they look at when they run, so that a library that does
not import is one failed check.
"""
