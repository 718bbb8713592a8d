"""One state of all the derived indexes: what a read works on from its beginning to its end."""

from collections.abc import Mapping
from dataclasses import dataclass

from services.retriever.columns import ColumnsView
from services.retriever.dense import DenseView
from services.retriever.lexical import LexicalView
from services.retriever.popular import Popular
from services.retriever.rules import SearchRules
from services.runtime.errors import FailedPrecondition
from souk.types.v1 import types_pb2

_DEFAULTS = SearchRules()


@dataclass(frozen=True)
class View:
    """The indexes after the change `sequence`. `generations` says which version of each space belongs to which, `rules`
    how those that state it are searched."""

    sequence: int
    columns: ColumnsView
    words: LexicalView
    popular: Popular
    spaces: Mapping[str, DenseView]
    generations: Mapping[str, tuple[str, ...]]
    rules: Mapping[str, SearchRules]
    serving: str

    def generation(self, named: str) -> str:
        """The generation that answers. Raises FailedPrecondition if the one named is not loaded."""
        if named and named not in self.generations:
            raise FailedPrecondition(f"generation {named} is not loaded")
        return named or self.serving

    def rules_of(self, generation: str) -> SearchRules:
        """How a generation's searches are scored."""
        return self.rules.get(generation, _DEFAULTS)

    def space(self, space: types_pb2.Space.ValueType, generation: str) -> DenseView:
        """A generation's vectors of one space. Raises FailedPrecondition if it has none."""
        for version in self.generations.get(generation, ()):
            if version in self.spaces and self.spaces[version].space == space:
                return self.spaces[version]
        name = types_pb2.Space.Name(space)
        raise FailedPrecondition(f"{name} is not loaded for generation {generation or '(none serves)'}")

    def version(self, space: types_pb2.Space.ValueType, version: str) -> DenseView:
        """The vectors of one version of a space. Raises FailedPrecondition if it is not loaded."""
        dense = self.spaces.get(version)
        if dense is None or dense.space != space:
            raise FailedPrecondition(f"version {version} of {types_pb2.Space.Name(space)} is not loaded")
        return dense
