"""Drives paho-mqtt. Usage: paho_agent.py URL   (mqtt://host:port or ws://host:port/path)"""

import sys
import threading
from urllib.parse import urlparse

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from lines import parse_line, print_line

PATIENCE_SECS = 60
# How many unacknowledged messages a flood keeps under way: fewer than the
# Receive Maximum of the router.
WINDOW = 50


class Refused(Exception):
    def __init__(self, code):
        super().__init__(f"refused with {code}")
        self.code = code


class Collection:
    """Counts numbered messages of one topic until the number `count - 1` has come.

    One topic, one publisher and one QoS keep their order, so whatever is missing
    then is lost.
    """

    def __init__(self, order):
        self.topic = order["topic"]
        self.last = order["count"] - 1
        self.received = 0
        self.disorder = 0
        self.highest = -1
        self.seen = set()
        self.finished = threading.Event()

    def take(self, message):
        if message.topic != self.topic:
            return False
        number = int(message.payload)
        self.received += 1
        self.seen.add(number)
        self.disorder += number < self.highest
        self.highest = max(self.highest, number)
        if number == self.last:
            self.finished.set()
        return True

    def report(self):
        return {"received": self.received, "distinct": len(self.seen), "disorder": self.disorder}


class Agent:
    def __init__(self, url):
        self.url = urlparse(url)
        self.client = None
        self.collection = None
        self.version = 4
        # Answers of the router by packet identifier, put there by paho's own thread.
        self.answers = {}
        self.answered = threading.Condition()

    def connect(self, order):
        self.version = order["version"]
        options = {} if self.version == 5 else {"clean_session": order.get("clean", True)}
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=order["clientId"],
            protocol=mqtt.MQTTv5 if self.version == 5 else mqtt.MQTTv311,
            transport="websockets" if self.url.scheme == "ws" else "tcp",
            reconnect_on_failure=False,
            **options,
        )
        client = self.client
        client.max_inflight_messages_set(WINDOW)
        client.max_queued_messages_set(0)
        if self.url.scheme == "ws":
            client.ws_set_options(path=self.url.path)
        if "username" in order:
            client.username_pw_set(order["username"], order.get("password"))
        if will := order.get("will"):
            client.will_set(will["topic"], payload(will), will.get("qos", 0), will.get("retain", False))
        client.on_connect = lambda _c, _u, flags, code, _p: self.answer("connack", (flags, code))
        client.on_subscribe = lambda _c, _u, mid, codes, _p: self.answer(("sub", mid), codes)
        client.on_unsubscribe = lambda _c, _u, mid, codes, _p: self.answer(("unsub", mid), codes)
        client.on_publish = lambda _c, _u, mid, code, _p: self.answer(("pub", mid), code)
        client.on_disconnect = lambda _c, _u, _f, code, _p: print_line({"closed": {"code": code.value}})
        client.on_message = self.on_message
        client.connect(self.url.hostname, self.url.port, keepalive=order.get("keepalive", 60), **self.start(order))
        client.loop_start()
        flags, code = self.wait("connack")
        if code.is_failure:
            raise Refused(code.value)
        return {"present": flags.session_present, "code": code.value}

    def start(self, order):
        if self.version != 5:
            return {}
        properties = Properties(PacketTypes.CONNECT)
        if order.get("expiry"):
            properties.SessionExpiryInterval = order["expiry"]
        return {"clean_start": order.get("clean", True), "properties": properties}

    def subscribe(self, order):
        _, mid = self.client.subscribe(order["topic"], order["qos"])
        return {"granted": [code.value for code in self.wait(("sub", mid))]}

    def unsubscribe(self, order):
        _, mid = self.client.unsubscribe(order["topic"])
        self.wait(("unsub", mid))

    def publish(self, order):
        info = self.client.publish(order["topic"], payload(order), order["qos"], order.get("retain", False))
        return {"code": self.wait(("pub", info.mid)).value}

    def flood(self, order):
        topic, qos, count = order["topic"], order["qos"], order["count"]
        infos = [self.client.publish(topic, str(number), qos) for number in range(count)]
        for info in infos:
            info.wait_for_publish(PATIENCE_SECS)
        return {"sent": count}

    def collect(self, order):
        self.collection = Collection(order)

    def collected(self, _order):
        if not self.collection.finished.wait(PATIENCE_SECS):
            raise TimeoutError(str(self.collection.report()))
        return self.collection.report()

    def disconnect(self, _order):
        self.client.disconnect()
        self.client.loop_stop()

    def on_message(self, _client, _user, message):
        if self.collection and self.collection.take(message):
            return
        body = {"topic": message.topic, "payload": message.payload.decode("latin1"), "hex": message.payload.hex()}
        print_line({"message": {**body, "qos": message.qos, "retain": message.retain, "dup": message.dup}})

    def answer(self, key, value):
        with self.answered:
            self.answers[key] = value
            self.answered.notify_all()

    def wait(self, key):
        with self.answered:
            if not self.answered.wait_for(lambda: key in self.answers, PATIENCE_SECS):
                raise TimeoutError(str(key))
            return self.answers.pop(key)

    def obey(self, order):
        try:
            print_line({"id": order["id"], "ok": getattr(self, order["do"])(order)})
        except Refused as refused:
            print_line({"id": order["id"], "error": {"code": refused.code}})
        except Exception as error:
            print_line({"id": order["id"], "error": {"message": repr(error)}})


def payload(order):
    return bytes.fromhex(order["hex"]) if "hex" in order else order.get("payload", "")


def main():
    agent = Agent(sys.argv[1])
    for line in sys.stdin:
        # Orders may overlap, so each has a thread of its own.
        threading.Thread(target=agent.obey, args=(parse_line(line),), daemon=True).start()


main()
