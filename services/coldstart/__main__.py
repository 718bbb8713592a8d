"""`python -m services.coldstart`: coldstart's process."""

from services.coldstart.service import ColdstartService
from services.coldstart.settings import ColdstartSettings
from services.runtime.server import run
from services.runtime.settings import load

settings = load(ColdstartSettings)
run(ColdstartService(settings), settings)
