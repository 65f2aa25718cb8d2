"""Places in a README that are written from numbers kept beside it: `<!-- WORD NAME -->` to `<!-- end of WORD -->`."""

import dataclasses
import pathlib
import re
from collections.abc import Callable

from tff_rec.errors import InputError

NOT_RUN = "*not run*"


@dataclasses.dataclass(frozen=True)
class Places:
    """The places of a kind.

    Attributes:
        word: In the comments around them.
    """

    word: str

    def check(self, readme: pathlib.Path, name: str, called: str) -> None:
        """Raises InputError if there is no README, or it has no place of that name; `called` says it to people."""
        if not readme.is_file():
            raise InputError(f"There is no file {readme} to write {self.word} tables into.")
        if name not in self.names(readme):
            raise InputError(
                f"{readme} has no place for {called}; put <!-- {self.word} {name} --> and <!-- end of {self.word} --> "
                "on lines of their own where its tables belong."
            )

    def names(self, readme: pathlib.Path) -> set[str]:
        """What a README has a place for; of NAME/PART the name."""
        text = readme.read_text(encoding="utf-8")
        return {match["name"].partition("/")[0] for match in self._pattern.finditer(text)}

    def filled(self, readme: pathlib.Path, make: Callable[[str], str]) -> str:
        """The README with every place written anew, from names to what stands there."""
        text = readme.read_text(encoding="utf-8")
        return self._pattern.sub(lambda match: f"{match[1]}\n{make(match['name'])}\n\n{match[3]}", text)

    @property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(rf"(<!-- {self.word} (?P<name>\S+) -->\n).*?(<!-- end of {self.word} -->)", re.DOTALL)
