"""`python -m services.ranker`: the ranker's process."""

from services.ranker.service import RankerService
from services.ranker.settings import RankerSettings
from services.runtime.server import run
from services.runtime.settings import load

settings = load(RankerSettings)
run(RankerService(settings), settings)
