"""An asyncio server."""
import asyncio
import os

TEXT = b"@TEXT@\n"


async def serve(reader, writer):
    try:
        while True:
            line = await reader.readline()
            if not line:
                break
            while await reader.readline() not in (b"\r\n", b""):
                pass
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(TEXT), TEXT))
            await writer.drain()
    finally:
        writer.close()


async def main():
    async with await asyncio.start_server(serve, "0.0.0.0", int(os.environ["PORT"])) as server:
        await server.serve_forever()


asyncio.run(main())
