"""Name constraints of CA certificates (RFC 5280, 4.2.1.10).

Such a CA may only certify some names: the subtrees of each kind of name are checked against the
subject and the alternative names of every certificate below it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, Final, Self
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID

from ikev2.authentication.names import canonical_domain, canonical_mailbox, canonical_name


@dataclass(frozen=True, slots=True)
class NameConstraints:
    """The permitted and excluded subtrees of one CA certificate."""

    permitted: tuple[x509.GeneralName, ...]
    excluded: tuple[x509.GeneralName, ...]

    @classmethod
    def of(cls, extension: x509.NameConstraints) -> Self:
        """Take the subtrees of the extension. Raises ValueError for a kind that we can't check."""
        permitted = tuple(extension.permitted_subtrees or ())
        excluded = tuple(extension.excluded_subtrees or ())
        for subtree in (*permitted, *excluded):
            if type(subtree) not in _WITHIN:
                raise ValueError(f'name constraints of kind {type(subtree).__name__}')
        return cls(permitted, excluded)

    def allow(self, subject: x509.Name, alternatives: Sequence[x509.GeneralName]) -> bool:
        """Return True if all names of a certificate are permitted and none is excluded."""
        return all(self._allows(kind, value) for kind, value in _names(subject, alternatives))

    def _allows(self, kind: type[x509.GeneralName], value: Any) -> bool:
        permitted = [subtree.value for subtree in self.permitted if type(subtree) is kind]
        excluded = [subtree.value for subtree in self.excluded if type(subtree) is kind]
        if not permitted and not excluded:
            return True
        within = _WITHIN[kind]
        if kind is x509.UniformResourceIdentifier and not _host_of(value):
            return False
        if any(within(value, subtree) for subtree in excluded):
            return False
        return not permitted or any(within(value, subtree) for subtree in permitted)


def _names(
    subject: x509.Name, alternatives: Sequence[x509.GeneralName]
) -> Iterable[tuple[type[x509.GeneralName], Any]]:
    """Return kind and value of every name of a certificate."""
    for name in alternatives:
        yield type(name), name.value
    if subject.rdns:
        yield x509.DirectoryName, subject
    if not alternatives:
        # RFC 5280, 4.2.1.10: old certificates have their mail addresses in the subject.
        for attribute in subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS):
            yield x509.RFC822Name, attribute.value


def _in_domain(name: str, subtree: str) -> bool:
    """Return True if a domain name is the subtree or below it; an empty subtree holds all names."""
    host, domain = canonical_domain(name), canonical_domain(subtree).removeprefix('.')
    return not domain or host == domain or host.endswith(f'.{domain}')


def _in_mailboxes(name: str, subtree: str) -> bool:
    """Return True if a mailbox is the subtree, at its host, or (with a dot in front) in its
    domain.
    """
    if '@' in subtree:
        return canonical_mailbox(name) == canonical_mailbox(subtree)
    return _host_in(name.rpartition('@')[2], subtree)


def _in_uris(name: str, subtree: str) -> bool:
    return _host_in(_host_of(name), subtree)


def _host_of(uri: str) -> str:
    """Return the host in a URI; empty if it has none or no name (then no constraint can hold)."""
    try:
        host = urlsplit(uri).hostname or ''
    except ValueError:
        return ''
    try:
        ip_address(host)
    except ValueError:
        return host
    return ''


def _host_in(host: str, subtree: str) -> bool:
    host, subtree = canonical_domain(host), canonical_domain(subtree)
    return host.endswith(subtree) if subtree.startswith('.') else host == subtree


def _in_network(name: Any, subtree: IPv4Network | IPv6Network) -> bool:
    return getattr(name, 'version', None) == subtree.version and name in subtree


def _in_directory(name: x509.Name, subtree: x509.Name) -> bool:
    beginning = canonical_name(subtree)
    return canonical_name(name)[: len(beginning)] == beginning


_WITHIN: Final[dict[type[x509.GeneralName], Callable[[Any, Any], bool]]] = {
    x509.DNSName: _in_domain,
    x509.RFC822Name: _in_mailboxes,
    x509.UniformResourceIdentifier: _in_uris,
    x509.IPAddress: _in_network,
    x509.DirectoryName: _in_directory,
}
