"""One IKE SA: its states, its keys, its window of messages.

- `ike_sa`, by the table of `transitions`; `origin`: data of the first exchange
- `channel`: one message at a time, protected (`protection`), numbered (`window`), in `fragments`;
  `intermediate`: the part of AUTH that covers IKE_INTERMEDIATE
- `exchange`: the interface of our requests; the requests are in `ikev2.exchanges`
- `key_log`: keys of IKE SAs for a network analyser, if an operator asks for them

Knows nothing of what the exchanges mean or of the other IKE SAs with the peer.
"""
