"""Drives xconn on asyncio. Usage: xconn_agent.py URL json|msgpack|cbor"""

import asyncio
import sys

from wampproto.auth import AnonymousAuthenticator
from wampproto.serializers import CBORSerializer, JSONSerializer, MsgPackSerializer
from xconn.async_client import connect
from xconn.exception import ApplicationError
from xconn.types import Result

from lines import parse_line, print_line

SERIALIZERS = {"json": JSONSerializer, "msgpack": MsgPackSerializer, "cbor": CBORSerializer}


class Agent:
    def __init__(self, url, serializer):
        self.url = url
        self.serializer = SERIALIZERS[serializer]()
        self.session = None
        self.subscriptions = {}

    async def connect(self, order):
        authenticator = AnonymousAuthenticator("")
        self.session = await connect(self.url, order["realm"], authenticator, self.serializer)
        return {"session": self.session._base_session.id, "details": {}}

    async def subscribe(self, order):
        topic = order["topic"]

        async def on_event(event):
            seen = {"topic": topic, "args": event.args or [], "kwargs": event.kwargs or {}, "details": event.details}
            print_line({"event": seen})

        self.subscriptions[topic] = await self.session.subscribe(topic, on_event, order.get("options"))
        return {"subscription": self.subscriptions[topic].subscription_id}

    async def unsubscribe(self, order):
        await self.subscriptions.pop(order["topic"]).unsubscribe()

    async def publish(self, order):
        # Returns once acknowledged, if that was asked for; the publication id is not shown.
        await self.session.publish(order["topic"], order.get("args"), order.get("kwargs"), order.get("options"))

    async def register(self, order):
        endpoint = getattr(self, "endpoint_" + order["endpoint"])(order)
        registration = await self.session.register(order["procedure"], endpoint, order.get("options"))
        return {"registration": registration.registration_id}

    async def call(self, order):
        result = await self.session.call(order["procedure"], order.get("args"), order.get("kwargs"))
        return {"args": result.args or [], "kwargs": result.kwargs or {}}

    async def leave(self, _order):
        await self.session.leave()
        print_line({"closed": {}})

    @staticmethod
    def endpoint_echo(_order):
        async def echo(invocation):
            return Result(invocation.args, invocation.kwargs)

        return echo

    @staticmethod
    def endpoint_fail(order):
        async def fail(_invocation):
            raise ApplicationError(order["uri"], *order["args"], **order["kwargs"])

        return fail

    @staticmethod
    def endpoint_wait(_order):
        async def wait(_invocation):
            print_line({"invoked": {}})
            await asyncio.get_running_loop().create_future()

        return wait

    async def obey(self, order):
        try:
            print_line({"id": order["id"], "ok": await getattr(self, order["do"])(order)})
        except ApplicationError as error:
            told = {"uri": error.message, "args": error.args, "kwargs": error.kwargs}
            print_line({"id": order["id"], "error": told})
        except Exception as error:
            print_line({"id": order["id"], "error": {"message": repr(error)}})


async def main():
    agent = Agent(sys.argv[1], sys.argv[2])
    loop = asyncio.get_running_loop()
    under_way = set()
    # Orders may overlap: a call waits while others are told.
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        task = loop.create_task(agent.obey(parse_line(line)))
        under_way.add(task)
        task.add_done_callback(under_way.discard)


asyncio.run(main())
