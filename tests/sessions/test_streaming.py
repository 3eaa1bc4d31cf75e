import asyncio
import threading

from sessions_app.ioloop import LoopThread
from sessions_app.streaming import Pump


def test_iterator_that_is_stopped_cleans_up_in_peace():
    started, cleaned = threading.Event(), threading.Event()

    async def endless():
        try:
            started.set()
            while True:
                await asyncio.sleep(0.01)
                yield 1
        finally:
            await asyncio.sleep(0.2)
            cleaned.set()

    pump = Pump(LoopThread(), endless(), most=10, weight=lambda _: 1)
    assert started.wait(5)
    pump.cancel()
    pump.close()
    assert cleaned.is_set()
