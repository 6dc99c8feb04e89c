"""What an application would otherwise have in amqpost's place.

FastAPI and FastStream in one process, with publisher confirms.
"""

import os

from fastapi import FastAPI, Request
from faststream.rabbit.fastapi import RabbitRouter

router = RabbitRouter(os.environ["BENCH_BROKER"], include_in_schema=False)


@router.post("/v1/queues/{queue}/messages")
async def publish(queue: str, request: Request) -> dict[str, str]:
    await router.broker.publish(await request.body(), queue=queue, mandatory=True, persist=True)
    return {"outcome": "confirmed"}


app = FastAPI()
app.include_router(router)
