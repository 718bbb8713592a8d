"""`python -m services.gateway`: the shop's API."""

from services.gateway.service import GatewayService
from services.gateway.settings import GatewaySettings
from services.runtime.server import run
from services.runtime.settings import load

if __name__ == "__main__":
    settings = load(GatewaySettings)
    run(GatewayService(settings), settings)
