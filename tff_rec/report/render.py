"""A report as one HTML page that needs nothing else, and as Markdown with its pictures beside it."""

import base64

import jinja2

from tff_rec.report.document import Document, Grid, Paragraph, Picture, Section, Text

PICTURES = "pictures"


def html(document: Document) -> str:
    """The page; styles and pictures are in it."""
    return _environment(autoescape=True).get_template("report.html.jinja").render(document=document)


def markdown(document: Document) -> str:
    """The same in Markdown; pictures are `pictures/NAME.png`."""
    return _environment(autoescape=False).get_template("report.md.jinja").render(document=document, folder=PICTURES)


def markdown_grid(grid: Grid) -> str:
    """A table in Markdown, without title."""
    rows = [[_markdown_text(text) for text in row] for row in grid.rows]
    lines = [[_escape(name) for name in grid.head], ["---"] * len(grid.head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _environment(autoescape: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tff_rec.report"),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"runs": _runs, "kind": _kind, "data_uri": _data_uri, "grid": markdown_grid}
    return environment


def _markdown_text(text: Text) -> str:
    escaped = _escape(text.text)
    toned = {"best": f"**{escaped}**", "missing": f"*{escaped}*"}.get(text.tone, escaped)
    return f"{toned} ({_escape(text.detail)})" if text.detail else toned


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*").replace("\n", " ").replace("<", "&lt;")


def _runs(section: Section) -> list[list[Paragraph | Grid | Picture]]:
    """A section's blocks, pictures that follow each other together."""
    runs: list[list[Paragraph | Grid | Picture]] = []
    for block in section.blocks:
        if isinstance(block, Picture) and runs and isinstance(runs[-1][0], Picture):
            runs[-1].append(block)
        else:
            runs.append([block])
    return runs


def _kind(block: Paragraph | Grid | Picture) -> str:
    return type(block).__name__


def _data_uri(picture: Picture) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.png).decode()}"
