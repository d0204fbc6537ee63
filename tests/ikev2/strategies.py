"""Hypothesis strategies for everything that an IKE message can hold."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

from ikev2.wire.message import PAYLOAD_CLASSES, Header, Message
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import (
    AuthPayload,
    CertificatePayload,
    CertificateRequestPayload,
    DeletePayload,
    EncryptedFragmentPayload,
    EncryptedPayload,
    IdiPayload,
    IdrPayload,
    KeyExchangePayload,
    NoncePayload,
    NotifyPayload,
    UnknownPayload,
    VendorIdPayload,
)
from ikev2.wire.payloads_sa import Attribute, Proposal, SaPayload, Transform
from ikev2.wire.payloads_ts import (
    TrafficSelector,
    TsiPayload,
    TsrPayload,
    UnknownTrafficSelector,
)

octet = st.integers(0, 0xFF)
word = st.integers(0, 0xFFFF)
data = st.binary(max_size=60)

attributes = st.one_of(
    st.builds(Attribute, st.integers(0, 0x7FFF), word),
    st.builds(Attribute, st.integers(0, 0x7FFF), st.binary(max_size=8)),
)
transforms = st.builds(
    Transform,
    octet,
    word,
    st.lists(attributes, max_size=3, unique_by=lambda a: a.attribute_type).map(tuple),
)
proposals = st.builds(
    Proposal,
    octet,
    octet,
    st.binary(max_size=8),
    st.lists(transforms, max_size=5).map(tuple),
)
sa_payloads = st.builds(SaPayload, st.lists(proposals, min_size=1, max_size=4).map(tuple))


def _selector(size: int) -> st.SearchStrategy[TrafficSelector]:
    address = st.binary(min_size=size, max_size=size)
    return st.builds(TrafficSelector, octet, word, word, address, address)


selectors = st.one_of(
    _selector(4),
    _selector(16),
    st.builds(UnknownTrafficSelector, octet.filter(lambda kind: kind not in (7, 8)), octet, data),
)
selector_lists = st.lists(selectors, min_size=1, max_size=4).map(tuple)

_reserved = st.binary(min_size=3, max_size=3)


def _spis(size: int) -> st.SearchStrategy[tuple[bytes, ...]]:
    return st.lists(st.binary(min_size=size, max_size=size), max_size=4).map(tuple)


known_payloads: st.SearchStrategy[Payload] = st.one_of(
    sa_payloads,
    st.builds(KeyExchangePayload, word, data),
    st.builds(IdiPayload, octet, data, _reserved),
    st.builds(IdrPayload, octet, data, _reserved),
    st.builds(CertificatePayload, octet, data),
    st.builds(CertificateRequestPayload, octet, data),
    st.builds(AuthPayload, octet, data),
    st.builds(NoncePayload, st.binary(min_size=16, max_size=256)),
    st.builds(NotifyPayload, word, data, octet, st.binary(max_size=8)),
    st.builds(DeletePayload, octet, st.integers(1, 8).flatmap(_spis)),
    st.builds(VendorIdPayload, data),
    st.builds(TsiPayload, selector_lists),
    st.builds(TsrPayload, selector_lists),
)
_understood = {0, 46, 53, *PAYLOAD_CLASSES}
unknown_payloads = st.builds(
    UnknownPayload, octet.filter(lambda kind: kind not in _understood), data
)
payloads = st.one_of(known_payloads, unknown_payloads)
chains = st.lists(payloads, max_size=6)

_fragment_numbers = st.integers(1, 0xFFFF).flatmap(
    lambda total: st.tuples(st.integers(1, total), st.just(total))
)


def _fragment(numbers: tuple[int, int], sealed: bytes, first: int) -> EncryptedFragmentPayload:
    number, total = numbers
    return EncryptedFragmentPayload(number, total, sealed, first if number == 1 else 0)


sealed_payloads: st.SearchStrategy[Payload] = st.one_of(
    st.builds(EncryptedPayload, data, octet),
    st.builds(_fragment, _fragment_numbers, data, octet),
)

_spi = st.binary(min_size=8, max_size=8)
headers = st.builds(
    Header,
    _spi,
    _spi,
    octet,
    st.integers(0, 0xFFFFFFFF),
    st.booleans(),
    st.booleans(),
    st.integers(0, 15),
)
messages = st.builds(
    lambda header, chain, last: Message(header, tuple(chain + last)),
    headers,
    chains,
    st.lists(sealed_payloads, max_size=1),
)


def mutated(whole: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """The octets with some changed, removed or put in: near enough to get past first checks."""
    return st.builds(_mutate, whole, st.lists(_edits, min_size=1, max_size=4))


_Edit = Callable[[bytes], bytes]


def _edit(kind: int, place: float, value: int, size: int) -> _Edit:
    def apply(octets: bytes) -> bytes:
        at = int(place * len(octets))
        if kind == 0:
            return octets[:at] + bytes([value]) + octets[at + 1 :]
        if kind == 1:
            return octets[:at] + octets[at + size :]
        return octets[:at] + bytes([value]) * size + octets[at:]

    return apply


_edits = st.builds(
    _edit, st.integers(0, 2), st.floats(0, 1, exclude_max=True), octet, st.integers(1, 9)
)


def _mutate(octets: bytes, edits: list[_Edit]) -> bytes:
    for edit in edits:
        octets = edit(octets)
    return octets
