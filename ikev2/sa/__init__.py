"""One IKE SA: its life, its keys, its window of messages.

- `ike_sa`, by the table of `transitions`; `origin`: how it came to be
- `channel`: one message at a time, protected (`protection`), numbered (`window`), in pieces
  (`fragments`); `intermediate`: what an IKE_INTERMEDIATE adds to AUTH
- `exchange`: what a request of ours must be for it; the requests are in `ikev2.exchanges`
- `key_log`: its keys for an analyser, if an operator wants that
"""
