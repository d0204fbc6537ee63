"""The rules for words that a script can judge, and the texts to judge by them.

A script does not read: that a text holds these rules does not make it clear. Left to reviewers are
a pronoun whose noun is in another docstring, a comment without its reason or source, a metaphor
that is not in the list below, and a test's name that says the condition in another way than by
`when`. Not judged at all are literals in code, and decision notes (records of their day).
Docstrings of tests may tell a story: only their words and their beginnings are judged.
"""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from inspect import cleandoc
from pathlib import Path
from typing import Final

ROOT = Path(__file__).parents[1]
PACKAGES: Final = ('keymaterial', 'ikev2', 'tcpao', 'gatekeeper', 'plugin', 'lab', 'bench')

MAX_TEST_NAME: Final = 60
MAX_SENTENCE: Final = 30
"""Words: five more than a reviewer lets pass. What is in parentheses does not count, and a colon or
a semicolon ends a sentence."""

RFC_TERMS: Final = (
    *('TCP-AO', 'MKT', 'MKTs', 'KeyID', 'KeyIDs', 'RNextKeyID', 'SNE', 'SNEs', 'ISNs'),
    *('IKEv2', 'SPI', 'SPIs', 'SK_d', 'SK_pi', 'SK_pr', 'IKE_SA_INIT', 'IKE_AUTH'),
    *('CREATE_CHILD_SA', 'TCP', 'UDP', 'BGP', 'IPv4', 'IPv6', 'IPsec', 'GTSM', 'HMAC', 'CMAC'),
)
"""Terms of RFC 4271, 5082, 5925, 5926 and 7296, as these spell them."""

_NO_VERB: Final = re.compile(
    r'(The|An?|What|Whose?|Whom|Of|As|How|Whether|Those|They|This|That|There|Where|When|Why|Which'
    r'|Its?|All|Each|Every|Both|One|Two|No|None|Nothing|Only|Another|Our|True|False|RFC|With'
    r'|Without|From|For|In|On|By|To|Until|If|Once|After|Before|Not|See)\b'
    r'|(?!Bring\b)[A-Z]\w*ing\b|[A-Z]\w*[^s]s\b|[A-Z]\w*[^e]ed\b|[^A-Z]'
)
"""Beginnings of a function's docstring that is no sentence with an imperative verb first."""

_NO_NOUN: Final = re.compile(r'(What|Whose?|Whom|Of|As|How|Whether|It|They|See)\b')
"""Beginnings of a module's or class's docstring that does not say which thing it describes."""

_END: Final = re.compile(r'([.:?!]|`|\])$|^ *[-|] .*\Z|^    .*\Z', re.MULTILINE)
"""The end of a sentence, of a list, of a table or of an example."""

_SENTENCE: Final = re.compile(r'(?<=[.:;?!])\s+|\n\s*\n|\n *[-|] ')

_UNCLEAR: Final = re.compile(
    r'\b(somebody|whoever|anybody|everybody|strangers?|nobody'
    r'|hears?|heard|greets?|greeted|pardon(s|ed)?|disappoint(s|ed)?|takes? leave)\b',
    re.IGNORECASE,
)
"""Words that name no party (say peer, process, user, operator), and metaphors for technical acts
(say receive, clear, fail, send)."""

_COINED: Final = frozenset(
    {
        *('hear', 'hears', 'heard', 'spoken', 'greeted', 'parting', 'strangers', 'pardon'),
        *('disappoint', 'take_leave', 'kept_out', 'truelines'),
    }
)
"""Names that have been replaced by a word of an RFC or of the domain."""

_CODE: Final = re.compile(r'`[^`]*`|\]\([^)]*\)')
_CODE_BLOCK: Final = re.compile(r'^```.*?^```|^    .*?$', re.DOTALL | re.MULTILINE)
_PARENTHESIS: Final = re.compile(r'\([^()]*\)')
_WORD: Final = re.compile(r'(?<![\w./="\'-])[A-Za-z][\w-]*(?![\w./=(-]\w|\()')
_SPELLING: Final = {term.lower(): term for term in RFC_TERMS}


@dataclass(frozen=True)
class Text:
    """A piece of prose, with its place: path, and the line or the name within the file."""

    place: str
    text: str


@dataclass(frozen=True)
class Docstring(Text):
    """The docstring of a module, class or function."""

    is_functions: bool


def docstrings(package: str) -> Iterator[Docstring]:
    """Yield the docstrings of a package's modules, classes and functions."""
    for path in _sources(package):
        for node in ast.walk(_tree(path)):
            if not isinstance(
                node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
            ):
                continue
            text = ast.get_docstring(node)
            if text is not None:
                place = f'{path.relative_to(ROOT)}:{getattr(node, "name", "")}'
                of_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                yield Docstring(place, text, of_function)


def prose(package: str) -> Iterator[Text]:
    """Yield a package's comments and docstrings, those of attributes and constants too."""
    for path in _sources(package):
        for node in ast.walk(_tree(path)):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                text = _CODE_BLOCK.sub('', cleandoc(node.value.value))
                yield Text(f'{path.relative_to(ROOT)}:{node.lineno}', text)
        with path.open() as file:
            for token in tokenize.generate_tokens(file.readline):
                if token.type == tokenize.COMMENT:
                    yield Text(f'{path.relative_to(ROOT)}:{token.start[0]}', token.string)


def documents() -> Iterator[Text]:
    """Yield the documents without their code: those of the root, of docs and of configs."""
    for path in (*ROOT.glob('*.md'), *ROOT.glob('docs/*.md'), *ROOT.glob('configs/**/*.md')):
        yield Text(str(path.relative_to(ROOT)), _CODE_BLOCK.sub('', path.read_text()))


def coined_names(package: str) -> Iterator[str]:
    """Yield places where a package's code has a name that has been replaced."""
    for path in _sources(package):
        for node in ast.walk(_tree(path)):
            names = {getattr(node, field, None) for field in ('name', 'id', 'attr', 'arg')}
            yield from (f'{path.relative_to(ROOT)}: {name}' for name in names & _COINED)


def silent_folders(package: str) -> Iterator[str]:
    """Yield the folders of a package whose `__init__` does not say what is in them."""
    for folder in {path.parent for path in _sources(package)}:
        first = folder / '__init__.py'
        if not first.exists() or not ast.get_docstring(_tree(first)):
            yield str(folder.relative_to(ROOT))


def compared_texts(package: str) -> Iterator[str]:
    """Yield comparisons of an error's text: decisions are made on types and enums."""
    for path in _sources(package):
        for handler in ast.walk(_tree(path)):
            if isinstance(handler, ast.ExceptHandler) and handler.name:
                texts = {f'str({handler.name})', f'repr({handler.name})', f'{handler.name}.args'}
                for node in ast.walk(handler):
                    if isinstance(node, ast.Compare) and any(
                        text in ast.unparse(node) for text in texts
                    ):
                        yield f'{path.relative_to(ROOT)}:{node.lineno}'


def faults(docstring: Docstring) -> list[str]:
    """Return the rules that a docstring does not hold."""
    found = []
    beginning = (_NO_VERB if docstring.is_functions else _NO_NOUN).match(docstring.text)
    if beginning:
        found.append(f'begins with "{beginning[0]}"')
    if not _END.search(docstring.text.rstrip().splitlines()[-1]):
        found.append('has no end')
    for sentence in _SENTENCE.split(_PARENTHESIS.sub('', docstring.text)):
        if len(sentence.split()) > MAX_SENTENCE:
            found.append(f'has more than {MAX_SENTENCE} words: {" ".join(sentence.split())}')
    return found


def has_no_subject(docstring: Docstring) -> bool:
    """Return whether a docstring begins with a pronoun, or with a question's word."""
    return _NO_NOUN.match(docstring.text) is not None


def bad_words(text: Text) -> list[str]:
    """Return the words of a text that are unclear, or a term that is spelled differently."""
    plain = _CODE.sub('', text.text)
    spelled = (word[0] for word in _WORD.finditer(plain))
    return [
        *(word[0] for word in _UNCLEAR.finditer(plain)),
        *(word for word in spelled if _SPELLING.get(word.lower(), word) != word),
    ]


def names_of_tests() -> Iterator[str]:
    """Yield the names of all tests, each after the path of its file."""
    for path in _sources('tests'):
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.FunctionDef) and node.name.startswith('test_'):
                yield f'{path.relative_to(ROOT)}:{node.name}'


def _sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob('*.py'))


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())
