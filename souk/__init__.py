"""What a caller of Souk installs: the client, the stubs of the contract and the command line."""

from souk.client import Client, Embeddings, ItemVectors, SyncClient

__all__ = ["Client", "Embeddings", "ItemVectors", "SyncClient"]
