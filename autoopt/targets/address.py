"""How a target is written: `SCHEME`, `SCHEME:WHERE`, `ssh://USER@HOST`, each with `?option=value&...`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from autoopt.core.validation import nearest
from autoopt.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Address:
    """A target's text, taken apart.

    Attributes:
        text: as the user wrote it.
        scheme: the kind of target, such as `ssh`.
        where: what follows the scheme, such as `pi@board:2222`; may be empty.
        options: by name.
    """

    text: str
    scheme: str
    where: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Take a target's text apart.

        Raises:
            ConfigError: if its options can't be read.
        """
        place, _, query = text.strip().partition("?")
        scheme, _, where = place.partition(":")
        try:
            options = dict(parse_qsl(query, strict_parsing=True, keep_blank_values=True)) if query else {}
        except ValueError as error:
            raise ConfigError(f"target {text}: expected ?option=value&option=value, got ?{query}") from error
        return cls(text=text.strip(), scheme=scheme, where=where.removeprefix("//"), options=options)

    def expect(self, options: Iterable[str], *, where: str = "") -> None:
        """Refuse options that the target does not know.

        Args:
            options: that it knows.
            where: what must follow the scheme, in words; nothing may if empty.

        Raises:
            ConfigError: for the first thing that is wrong.
        """
        known = tuple(options)
        for name in self.options:
            if name not in known:
                raise ConfigError(f"target {self.text}: unknown option {name!r}; {nearest(name, known)}")
        if where and not self.where:
            raise ConfigError(f"target {self.text}: expected {self.scheme}:{where}")
        if not where and self.where:
            raise ConfigError(f"target {self.text}: expected {self.scheme} alone, got {self.where!r} after it")

    def choice(self, name: str, known: tuple[str, ...]) -> str:
        """An option with few values; the first is the default.

        Raises:
            ConfigError: for any other value.
        """
        value = self.options.get(name, known[0])
        if value not in known:
            raise ConfigError(f"target {self.text}: {name}: expected one of {', '.join(known)}, got {value!r}")
        return value
