"""Submit a generation, take the notification that it has ended, and save the image.

The address in ``webhook`` must be one that the service can reach; here the program talks to itself.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from apimart_async import APIError, APIResponseValidationError, AsyncApimart, NotFoundError, Task, webhooks


class Receiver:
    """Confirms notifications, and hands each ended task out once."""

    def __init__(self, client: AsyncApimart) -> None:
        self.client = client
        self.deliveries = webhooks.Deliveries()
        self.finished: asyncio.Queue[Task] = asyncio.Queue()

    async def callback(self, request: web.Request) -> web.Response:
        """Take a notification; the status decides whether the service sends it again."""
        try:
            notified = webhooks.parse(await request.read())
        except APIResponseValidationError:
            return web.Response(status=400)
        if notified in self.deliveries:
            return web.Response()
        try:
            task = await webhooks.confirm(self.client, notified)
        except APIError as error:
            # Not genuine, unless a gateway has answered; the service sends it again after any status but 4xx.
            is_forged = isinstance(error, NotFoundError) and not error.is_page
            return web.Response(status=400 if is_forged else 503)
        if not task.is_finished:
            return web.Response(status=503)
        self.finished.put_nowait(task)
        self.deliveries.add(notified)
        return web.Response()


async def main() -> None:
    """Serve the receiver, and use it once."""
    async with AsyncApimart() as client:
        receiver = Receiver(client)
        app = web.Application()
        app.router.add_post("/apimart/callback", receiver.callback)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0][:2]
            await client.generations.create("A lighthouse", webhook=f"http://{host}:{port}/apimart")
            task = await receiver.finished.get()
            print(*await client.images.save(task, "out/"))
        finally:
            await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
