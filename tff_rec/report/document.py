"""A report before it is HTML or Markdown: sections of paragraphs, tables and pictures."""

import dataclasses
from typing import Literal

Tone = Literal["", "best", "missing", "published"]


@dataclasses.dataclass(frozen=True)
class Text:
    """What stands in a table's cell, and how; `detail`, such as an interval, follows it, smaller."""

    text: str
    tone: Tone = ""
    detail: str = ""


@dataclasses.dataclass(frozen=True)
class Paragraph:
    """Words."""

    text: str


@dataclasses.dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        title: Over it.
        protocol: What the numbers were measured by; "" for a table without measurements.
        caption: Under the title: how to read it.
        head: Names of the columns.
        rows: As many texts each; the first is the row's name.
        folded: Whether a page shows it on request only.
    """

    title: str
    protocol: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Text, ...], ...]
    folded: bool = False


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG.

    Attributes:
        name: Of its file, without ending.
        png: The file.
        title: Over it.
        protocol: What the numbers were measured by.
        alt: What it shows, in words.
    """

    name: str
    png: bytes
    title: str
    protocol: str
    alt: str


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and what stands under it; pictures that follow each other stand side by side where there is room."""

    id: str
    title: str
    blocks: tuple[Paragraph | Grid | Picture, ...]


@dataclasses.dataclass(frozen=True)
class Document:
    """A whole report; `lead` is the study's state in a sentence."""

    title: str
    lead: str
    sections: tuple[Section, ...]

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All of them."""
        return tuple(block for section in self.sections for block in section.blocks if isinstance(block, Picture))
