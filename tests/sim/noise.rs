//! Peers that break the rules: garbage, valid messages with wrong bytes in them, half a message.

use crate::actor::{Actor, Cx, Phase};
use crate::ledger::ActorId;
use crate::net::{Item, LinkId, Wire};
use bytes::{Bytes, BytesMut};
use protocols::mqtt::codec::encode;
use protocols::mqtt::packet::{
    Connect, Packet, PacketId, ProtocolVersion, Publish, QoS, Subscribe, SubscribeFilter,
};
use router_core::encoding::Encoding;
use router_core::encoding::transcode::transcode;

const FRAMES: [&str; 8] = [
    r#"[1,"realm1",{"roles":{"publisher":{},"subscriber":{},"caller":{},"callee":{}}}]"#,
    r#"[16,1,{"acknowledge":true,"retain":true,"when":{"a":1},"watch":true},"noise.x",[1],{"a":2}]"#,
    r#"[32,2,{"match":"wildcard"},"noise..x"]"#,
    r#"[48,3,{"receive_progress":true},"noise.none",[[[1]],null]]"#,
    r#"[64,4,{"concurrency":1},"noise.proc"]"#,
    r#"[70,99,{},[1]]"#,
    r#"[48,5,{},"fox.kv.get",["noise.x"]]"#,
    r#"[6,{},"wamp.close.normal"]"#,
];

pub struct Noise {
    me: ActorId,
    link: Option<LinkId>,
    next_act: u64,
    left: u32,
    said: u32,
}

impl Noise {
    pub fn new(me: ActorId) -> Noise {
        Noise {
            me,
            link: None,
            next_act: 0,
            left: 0,
            said: 0,
        }
    }

    fn open(&mut self, cx: &mut Cx<'_>) {
        let wires = [
            Wire::Stream,
            Wire::Frames,
            Wire::WampJson,
            Wire::WampMsgPack,
        ];
        let wire = *cx.dice.pick(&wires);
        let link = cx.net.connect(wire, cx.dice);
        cx.ledger.opened(link, self.me, None);
        cx.ledger.excuse(link, "noise");
        cx.ledger.fault("malformed peers");
        self.link = Some(link);
        self.left = cx.dice.range(1, 12) as u32;
        self.said = 0;
    }

    fn say(&mut self, link: LinkId, cx: &mut Cx<'_>) {
        let wire = cx.net.link(link).wire;
        let mut bytes = match cx.dice.range(0, 9) {
            0 => {
                let len = cx.dice.below(40);
                cx.dice.bytes(len)
            }
            _ => self.valid(wire),
        };
        self.said += 1;
        if !bytes.is_empty() && cx.dice.permille(300) {
            match cx.dice.range(0, 2) {
                0 => {
                    let at = cx.dice.below(bytes.len());
                    bytes[at] ^= 1 << cx.dice.range(0, 7);
                }
                1 => bytes.truncate(cx.dice.below(bytes.len())),
                _ => {
                    let more = cx.dice.bytes(3);
                    bytes.extend(more);
                }
            }
        }
        let bytes = Bytes::from(bytes);
        let is_text = std::str::from_utf8(&bytes).is_ok() && cx.dice.permille(950);
        let item = match wire {
            Wire::Stream => Item::Bytes(bytes),
            Wire::WampJson if is_text => Item::Text(bytes),
            _ => Item::Binary(bytes),
        };
        cx.net.client_send(link, item, cx.now, cx.dice);
    }

    fn valid(&self, wire: Wire) -> Vec<u8> {
        if wire.is_wamp() {
            let frame = Bytes::from_static(FRAMES[self.said as usize % FRAMES.len()].as_bytes());
            return match wire {
                Wire::WampMsgPack => transcode(&frame, Encoding::Json, Encoding::MsgPack)
                    .unwrap_or_default()
                    .to_vec(),
                _ => frame.to_vec(),
            };
        }
        let filters = vec![SubscribeFilter {
            filter: "noise/#".into(),
            options: Default::default(),
        }];
        let packet = match self.said % 4 {
            0 => Packet::Connect(Box::new(Connect {
                version: ProtocolVersion::V5,
                clean_start: true,
                keep_alive: 20,
                client_id: "noise".into(),
                will: None,
                username: None,
                password: None,
                properties: None,
            })),
            1 => Packet::Subscribe(Subscribe {
                packet_id: PacketId::MIN,
                properties: None,
                filters,
            }),
            2 => Packet::Publish(Publish {
                dup: false,
                qos: QoS::ExactlyOnce,
                retain: true,
                topic: "noise/x".into(),
                packet_id: Some(PacketId::MIN),
                properties: None,
                payload: Bytes::from_static(b"{\"x\":[1,2,3]}"),
            }),
            _ => Packet::PingReq,
        };
        let mut out = BytesMut::new();
        let _ = encode(&packet, ProtocolVersion::V5, &mut out);
        out.to_vec()
    }
}

impl Actor for Noise {
    fn turn(&mut self, cx: &mut Cx<'_>) -> bool {
        if let Some(link) = self.link {
            while cx.net.client_take(link, cx.now).is_some() {}
            if cx.net.client_ended(link, cx.now) {
                cx.net.client_close(link, cx.now, cx.dice);
                self.link = None;
                return true;
            }
        }
        if cx.now < self.next_act {
            return false;
        }
        self.next_act = cx.now + cx.dice.range(5, 500);
        match self.link {
            None if cx.phase == Phase::Chaos => self.open(cx),
            None => self.next_act = u64::MAX,
            Some(link) if self.left == 0 || cx.phase != Phase::Chaos => {
                cx.net.client_close(link, cx.now, cx.dice);
                self.link = None;
            }
            Some(link) => {
                self.left -= 1;
                self.say(link, cx);
            }
        }
        true
    }

    fn next(&self) -> Option<u64> {
        (self.next_act < u64::MAX).then_some(self.next_act)
    }

    fn link(&self) -> Option<LinkId> {
        self.link
    }

    fn waits(&self, _: Phase) -> Option<String> {
        self.link.map(|link| format!("noise has {link}"))
    }
}
