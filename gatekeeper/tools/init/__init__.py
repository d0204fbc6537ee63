"""The command `gatekeeper init`: a first configuration, and keys, for two routers.

`questions` asks for missing options, `routers` makes the files' contents, `command` is the command
line. The text of a configuration is the adapter's.

Knows nothing of a configuration language, and never overwrites a file.
"""
