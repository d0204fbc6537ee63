"""A User Mode Linux with TCP-AO: built once, booted as an ordinary process.

The host's file system is the guest's root, so the same Python environment runs inside it.
"""
