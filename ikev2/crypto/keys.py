"""Key derivation of IKE SAs and their children (RFC 7296, 2.14, 2.17, 2.18; RFC 9370, 2.2).

Pure functions. `ni` and `nr` are nonce data without headers, by the roles in the exchange that
they come from; shared secrets are in the form that their key exchange method defines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from ikev2.crypto.cipher import Cipher, Encryption, make_cipher
from ikev2.crypto.prf import prf, prf_length, prf_plus
from keymaterial import Secret


@dataclass(frozen=True, slots=True)
class IkeKeys:
    """The seven secrets of an IKE SA. SK_ai and SK_ar are empty with an AEAD."""

    sk_d: Secret
    sk_ai: Secret
    sk_ar: Secret
    sk_ei: Secret
    sk_er: Secret
    sk_pi: Secret
    sk_pr: Secret

    def initiator_cipher(self, encryption: Encryption) -> Cipher:
        """Return the cipher for messages of the original initiator."""
        return make_cipher(encryption, self.sk_ei, self.sk_ai)

    def responder_cipher(self, encryption: Encryption) -> Cipher:
        """Return the cipher for messages of the original responder."""
        return make_cipher(encryption, self.sk_er, self.sk_ar)

    def wipe(self) -> None:
        """Wipe all seven secrets."""
        for field in fields(self):
            getattr(self, field.name).wipe()


def skeyseed(prf_id: int, ni: bytes, nr: bytes, shared: Secret) -> Secret:
    """Return SKEYSEED = prf(Ni | Nr, g^ir) (RFC 7296, 2.14)."""
    return Secret(prf(prf_id, ni + nr, shared.reveal()))


def skeyseed_rekey(
    prf_id: int,
    sk_d: Secret,
    shared: Secret,
    ni: bytes,
    nr: bytes,
    additional: Sequence[Secret] = (),
) -> Secret:
    """Return SKEYSEED = prf(SK_d, SK(0) | Ni | Nr | SK(1) | ... | SK(n)).

    For the rekey of an IKE SA (RFC 7296, 2.18; RFC 9370, 2.2.4): `prf_id` and `sk_d` are the old
    IKE SA's. Also SKEYSEED(n) after an IKE_INTERMEDIATE key exchange (RFC 9370, 2.2.2), with its
    secret as `shared`, the current SK_d and the nonces of IKE_SA_INIT.
    """
    return Secret(prf(prf_id, sk_d, _keyed_seed(shared, ni, nr, additional)))


def derive_ike_keys(
    encryption: Encryption,
    prf_id: int,
    seed: Secret,
    ni: bytes,
    nr: bytes,
    initiator_spi: bytes,
    responder_spi: bytes,
) -> IkeKeys:
    """Return {SK_d | SK_ai | SK_ar | SK_ei | SK_er | SK_pi | SK_pr} = prf+(SKEYSEED, Ni | Nr |
    SPIs).

    RFC 7296, 2.14. `seed` is SKEYSEED; the SPIs, nonces and PRF are the new IKE SA's.
    """
    prf_size = prf_length(prf_id)
    lengths = (
        prf_size,
        encryption.integrity_key_length,
        encryption.integrity_key_length,
        encryption.encryption_key_length,
        encryption.encryption_key_length,
        prf_size,
        prf_size,
    )
    material = prf_plus(prf_id, seed, ni + nr + initiator_spi + responder_spi, sum(lengths))
    octets = material.reveal()
    material.wipe()
    parts = []
    position = 0
    for length in lengths:
        parts.append(Secret(octets[position : position + length]))
        position += length
    return IkeKeys(*parts)


def child_keymat(
    prf_id: int,
    sk_d: Secret,
    ni: bytes,
    nr: bytes,
    length: int,
    shared: Secret | None = None,
    additional: Sequence[Secret] = (),
) -> Secret:
    """Return the first `length` octets of KEYMAT (RFC 7296, 2.17).

    KEYMAT is prf+(SK_d, Ni | Nr) without `shared`; else prf+(SK_d, SK(0) | Ni | Nr | SK(1) | ... |
    SK(n)) with SK(0) = `shared` and `additional` from IKE_FOLLOWUP_KE exchanges (RFC 9370, 2.2.4).
    """
    if shared is None:
        if additional:
            raise ValueError('additional key exchanges need a first one')
        return prf_plus(prf_id, sk_d, ni + nr, length)
    return prf_plus(prf_id, sk_d, _keyed_seed(shared, ni, nr, additional), length)


def _keyed_seed(shared: Secret, ni: bytes, nr: bytes, additional: Sequence[Secret]) -> bytes:
    return shared.reveal() + ni + nr + b''.join(secret.reveal() for secret in additional)
