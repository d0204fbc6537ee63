"""The configuration language: words in, values out, for every adapter.

`directives`, `keychain_directives` and `credential_directives` define the allowed words and their
meaning; `statements` holds what was read, `location` its position, `key_files` reads the files,
`keychains` and `session_settings` make the values.

Knows nothing of any program's parser; an adapter hands the words in.
"""
