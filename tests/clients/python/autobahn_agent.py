"""Drives autobahn-python on asyncio. Usage: autobahn_agent.py URL json|msgpack|cbor[.batched]"""

import asyncio
import sys

import txaio

txaio.use_asyncio()

from autobahn.asyncio.rawsocket import WampRawSocketClientFactory  # noqa: E402
from autobahn.asyncio.wamp import ApplicationRunner, ApplicationSession  # noqa: E402
from autobahn.wamp import types  # noqa: E402
from autobahn.wamp.exception import ApplicationError  # noqa: E402
from autobahn.wamp.serializer import CBORSerializer, JsonSerializer, MsgPackSerializer  # noqa: E402

from lines import parse_line, print_line  # noqa: E402


class Session(ApplicationSession):
    """Joins as the order says and tells the agent when that has ended well or badly."""

    def __init__(self, order, joined):
        super().__init__(types.ComponentConfig(order["realm"]))
        self.order = order
        self.joined = joined

    def onConnect(self):
        if "authid" in self.order:
            self.join(self.config.realm, ["ticket"], self.order["authid"])
        else:
            self.join(self.config.realm)

    def onChallenge(self, challenge):
        return self.order["ticket"]

    def onJoin(self, details):
        self.joined.set_result({"session": details.session, "details": details.marshal()})

    def onLeave(self, details):
        print_line({"closed": {"uri": details.reason}})
        if not self.joined.done():
            self.joined.set_exception(ApplicationError(details.reason, details.message))
        super().onLeave(details)


class Agent:
    def __init__(self, url, serializer):
        self.url = url
        name, _, batched = serializer.partition(".")
        kinds = {"json": JsonSerializer, "msgpack": MsgPackSerializer, "cbor": CBORSerializer}
        self.serializer = kinds[name](batched=bool(batched))
        self.session = None
        self.subscriptions = {}
        # Order id -> the future of a call.
        self.pending = {}
        self.running = 0
        self.most = 0

    async def connect(self, order):
        joined = asyncio.get_running_loop().create_future()
        self.session = Session(order, joined)
        if self.url.startswith("rs://unix:"):
            # ApplicationRunner knows TCP only.
            factory = WampRawSocketClientFactory(lambda: self.session, serializer=self.serializer)
            path = self.url.removeprefix("rs://unix:")
            await asyncio.get_running_loop().create_unix_connection(factory, path)
        else:
            runner = ApplicationRunner(self.url, order["realm"], serializers=[self.serializer])
            await runner.run(lambda _: self.session, start_loop=False)
        return await joined

    async def subscribe(self, order):
        topic = order["topic"]

        def on_event(*args, details=None, **kwargs):
            seen = {"topic": details.topic, "publication": details.publication, "retained": details.retained}
            print_line({"event": {"topic": topic, "args": args, "kwargs": kwargs, "details": seen}})

        options = types.SubscribeOptions(details=True, **order.get("options", {}))
        self.subscriptions[topic] = await self.session.subscribe(on_event, topic, options)
        return {"subscription": self.subscriptions[topic].id}

    async def unsubscribe(self, order):
        await self.subscriptions.pop(order["topic"]).unsubscribe()

    async def publish(self, order):
        options = types.PublishOptions(**order.get("options", {}))
        done = self.session.publish(
            order["topic"], *order.get("args", []), options=options, **order.get("kwargs", {})
        )
        return {"publication": (await done).id} if options.acknowledge else None

    async def register(self, order):
        endpoint = getattr(self, "endpoint_" + order["endpoint"])(order)
        options = types.RegisterOptions(details_arg="details", **order.get("options", {}))
        registration = await self.session.register(endpoint, order["procedure"], options)
        return {"registration": registration.id}

    async def call(self, order):
        def report(*args, **kwargs):
            print_line({"progress": {"order": order["id"], "args": args, "kwargs": kwargs}})

        # With `details` the result comes as args and kwargs, whatever its shape; but
        # the library cannot combine that with progress reports.
        progress = order.get("progress", False)
        options = types.CallOptions(on_progress=report if progress else None, details=not progress)
        pending = self.session.call(
            order["procedure"], *order.get("args", []), options=options, **order.get("kwargs", {})
        )
        self.pending[order["id"]] = pending
        result = await pending
        if isinstance(result, types.CallResult):
            return {"args": result.results, "kwargs": result.kwresults or {}}
        return {"args": [] if result is None else [result], "kwargs": {}}

    async def cancel(self, order):
        # The library has no word for the mode: the router's default holds.
        self.pending[order["order"]].cancel()

    async def calls(self, order):
        calls = [self.session.call(order["procedure"], number) for number in range(order["count"])]
        return {"results": await asyncio.gather(*calls)}

    async def gauge(self, _order):
        return {"most": self.most, "running": self.running}

    async def leave(self, _order):
        self.session.leave()

    @staticmethod
    def endpoint_echo(_order):
        return lambda *args, details=None, **kwargs: types.CallResult(*args, **kwargs)

    @staticmethod
    def endpoint_fail(order):
        def fail(*_args, details=None, **_kwargs):
            raise ApplicationError(order["uri"], *order["args"], **order["kwargs"])

        return fail

    @staticmethod
    def endpoint_count(_order):
        def count(number, details=None):
            for step in range(number):
                details.progress(step)
            return number

        return count

    @staticmethod
    def endpoint_wait(_order):
        async def wait(details=None):
            print_line({"invoked": {}})
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                print_line({"interrupted": {}})
                raise ApplicationError(ApplicationError.CANCELED)

        return wait

    def endpoint_hold(self, order):
        async def hold(number, details=None):
            self.running += 1
            self.most = max(self.most, self.running)
            await asyncio.sleep(order["millis"] / 1000)
            self.running -= 1
            return number

        return hold

    async def obey(self, order):
        try:
            print_line({"id": order["id"], "ok": await getattr(self, order["do"])(order)})
        except ApplicationError as error:
            told = {"uri": error.error, "args": error.args, "kwargs": error.kwargs}
            print_line({"id": order["id"], "error": told})
        except asyncio.CancelledError:
            # What the library makes of a call that the order `cancel` ended.
            print_line({"id": order["id"], "error": {"message": "CancelledError"}})
        except Exception as error:
            print_line({"id": order["id"], "error": {"message": repr(error)}})


async def main():
    agent = Agent(sys.argv[1], sys.argv[2])
    loop = asyncio.get_running_loop()
    under_way = set()
    # Orders may overlap: several calls wait while others are told.
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        task = loop.create_task(agent.obey(parse_line(line)))
        under_way.add(task)
        task.add_done_callback(under_way.discard)


asyncio.run(main())
