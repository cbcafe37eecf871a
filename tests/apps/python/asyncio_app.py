# SPDX-License-Identifier: ISC
import asyncio


async def handle(reader, writer):
    line = await reader.readline()
    while (await reader.readline()).strip():
        pass
    await asyncio.sleep(0.01)
    body = b"hello from asyncio " + line.split()[1]
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))
    await writer.drain()
    writer.close()


async def main():
    server = await asyncio.start_server(handle, "0.0.0.0", 8080)
    async with server:
        await server.serve_forever()


asyncio.run(main())
