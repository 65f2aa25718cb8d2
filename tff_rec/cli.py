"""Command lines of the scripts: options from a frozen dataclass, errors as one sentence with exit code 2."""

import contextlib
import dataclasses
import io
import os
import pathlib
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tyro

from tff_rec.errors import InputError

Options = TypeVar("Options")


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """Which interactions.

    Attributes:
        source: synthetic, a MovieLens release such as ml-1m, hm or csv.
        path: Its zip, folder or file; by default looked for in $TFF_REC_DATA/SOURCE/.
    """

    source: str = "synthetic"
    path: pathlib.Path | None = None


def run(
    main: Callable[[Options], None],
    options: type[Options],
    description: str | None,
    read_defaults: Callable[[Sequence[str]], Options] | None = None,
) -> None:
    """Parses the command line into `options` and calls `main` with them.

    Args:
        main: The script.
        options: A frozen dataclass; its fields become options, named with hyphens.
        description: Shown by `--help`.
        read_defaults: Default options from the arguments, e.g. from the file that `--config` names.

    Raises:
        SystemExit: With code 2 and one sentence on standard error after bad input; 130 after Ctrl-C.
    """
    # TensorFlow's notices would drown what the script says.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        main(parse(options, sys.argv[1:], description, read_defaults))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def parse(
    options: type[Options],
    arguments: Sequence[str],
    description: str | None = None,
    read_defaults: Callable[[Sequence[str]], Options] | None = None,
) -> Options:
    """Options from arguments.

    Raises:
        InputError: An option is unknown or a value is wrong.
        SystemExit: After `--help`.
    """
    asks_help = any(argument in ("-h", "--help") for argument in arguments)
    extra: dict[str, Any] = {}
    if read_defaults is not None and not asks_help:
        extra["default"] = read_defaults(arguments)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            parsed, unknown = tyro.cli(
                options,
                args=list(arguments),
                description=description,
                return_unknown_args=True,
                **extra,
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise InputError(_sentence(printed.getvalue())) from None
    if unknown:
        raise InputError(f"There is no option or value '{unknown[0]}' here; --help lists the options.")
    return parsed


def value_of(option: str, arguments: Sequence[str]) -> str | None:
    """The last value given to an option as `--option value` or `--option=value`; None where it is not given."""
    value = None
    for index, argument in enumerate(arguments):
        if argument == option and index + 1 < len(arguments):
            value = arguments[index + 1]
        elif argument.startswith(f"{option}="):
            value = argument.split("=", 1)[1]
    return value


def _sentence(text: str) -> str:
    """The first paragraph of tyro's framed message, after its title, as a sentence."""
    words: list[str] = []
    for line in text.splitlines()[1:]:
        content = line.strip("│| ")
        if content and content.strip("─-+"):
            words.append(content)
        elif words:
            break
    message = re.sub(r"^Error parsing \w+: ", "", " ".join(" ".join(words).split())).rstrip(".")
    return f"{message or 'The options are wrong'}; --help lists the options."
