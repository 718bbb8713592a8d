"""`python -m services.retriever`: the retriever's process."""

from services.retriever.service import RetrieverService
from services.retriever.settings import RetrieverSettings
from services.runtime.server import run
from services.runtime.settings import load

settings = load(RetrieverSettings)
run(RetrieverService(settings), settings)
