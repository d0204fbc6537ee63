"""Keys that IKEv2 negotiates: opening, accepting, rekeying, deletion and reauthentication.

`ike_events` receives what the IKE endpoint tells and hands it on. How a successor is brought into
use is in `gatekeeper.engine.rotation`, which is the same for every key.

Knows nothing of keychains.
"""
