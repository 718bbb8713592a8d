"""`python -m services.embedder`: the embedder's process."""

from services.embedder.service import EmbedderService
from services.embedder.settings import EmbedderSettings
from services.runtime.server import run
from services.runtime.settings import load

settings = load(EmbedderSettings)
run(EmbedderService(settings), settings)
