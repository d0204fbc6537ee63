"""The configuration language: words in, values out, for every adapter.

`directives`, `keychain_directives` and `credential_directives` say which words are allowed and what
they mean; `statements` is what was read, `location` where it stood, `key_files` reads the files.

Knows nothing of any program's parser; an adapter hands the words in.
"""
