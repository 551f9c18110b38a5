"""Two stores that replicate over loopback TCP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from edge.crypto.keys import KeyPair
from edge.hypercore.corestore import Corestore
from edge.hyperswarm.connection import Connection, connect
from edge.hyperswarm.server import serve


@asynccontextmanager
async def linked(one: Corestore, other: Corestore) -> AsyncIterator[None]:
    """They replicate while inside; `other` has dialled."""

    def met(connection: Connection) -> None:
        one.replicate(connection)

    server = await serve("127.0.0.1", 0, key_pair=KeyPair.generate(), on_connection=met)
    connection = await connect("127.0.0.1", server.port, key_pair=KeyPair.generate())
    other.replicate(connection)
    try:
        yield
    finally:
        connection.close()
        await connection.wait_closed()
        await server.close()
