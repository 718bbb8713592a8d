"""How the searches of a generation are scored: what its bundle states, else the defaults."""

from dataclasses import dataclass, field, replace

from services.domain.bundle import Bundle, BundleError
from services.domain.checks import Invalid
from services.domain.search import Bm25f, SearchManifest, read_synonyms
from services.retriever.query import NO_SYNONYMS, Synonyms
from souk.retriever.v1 import retriever_pb2

_FUSIONS = {
    "convex": retriever_pb2.FUSION_CONVEX,
    "reciprocal_rank": retriever_pb2.FUSION_RECIPROCAL_RANK,
    "discounted": retriever_pb2.FUSION_DISCOUNTED,
}


@dataclass(frozen=True)
class SearchRules:
    """What a generation states for requests that do not say it themselves."""

    bm25f: Bm25f = field(default_factory=Bm25f)
    words_weight: float = SearchManifest.words_weight
    """Share of words in a search by words and vectors."""
    fusion: retriever_pb2.Fusion.ValueType = _FUSIONS[SearchManifest.fusion]
    synonyms: Synonyms = NO_SYNONYMS

    @classmethod
    def of(cls, bundle: Bundle) -> "SearchRules":
        """Those of a bundle. Raises BundleError where its synonyms cannot be read."""
        manifest = bundle.manifest.search or SearchManifest()
        synonyms = NO_SYNONYMS
        if manifest.synonyms:
            path = bundle.path / manifest.synonyms
            try:
                synonyms = Synonyms(read_synonyms(path.read_text(encoding="utf-8")))
            except (OSError, ValueError) as error:
                raise BundleError(f"{path}: {error}") from None
        return cls(manifest.bm25f, manifest.words_weight, _FUSIONS[manifest.fusion], synonyms)

    def weight_of(self, leg: retriever_pb2.Leg, request: retriever_pb2.SearchRequest) -> float:
        """A leg's share in the fused score."""
        if leg.HasField("weight"):
            return leg.weight
        if not _is_hybrid(request):
            return 1.0
        return {"words": self.words_weight, "vector": 1 - self.words_weight}.get(leg.WhichOneof("query") or "", 1.0)

    def fusion_of(self, request: retriever_pb2.SearchRequest) -> retriever_pb2.Fusion.ValueType:
        """How the legs of a request become one."""
        if request.fusion or not _is_hybrid(request):
            return request.fusion or retriever_pb2.FUSION_CONVEX
        return self.fusion

    def bm25f_of(self, leg: retriever_pb2.WordsLeg, path: str) -> Bm25f:
        """How a leg's words count. Raises Invalid, with the field of the leg named, for what Bm25f refuses."""
        if not leg.HasField("bm25f"):
            return self.bm25f
        stated = {parameter.name: value for parameter, value in leg.bm25f.ListFields()}
        try:
            return replace(self.bm25f, **stated)
        except Invalid as invalid:
            raise Invalid(f"{path}.bm25f.{invalid.field}", invalid.problem) from None


def _is_hybrid(request: retriever_pb2.SearchRequest) -> bool:
    return {"words", "vector"} <= {leg.WhichOneof("query") for leg in request.legs}
