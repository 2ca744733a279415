//! A WAMP client: a session that comes and goes, and a role that works in it.

use crate::actor::{Actor, Cx, Phase};
use crate::ledger::ActorId;
use crate::net::LinkId;
use crate::wamp_end::{Heard, WampEnd};
use protocols::wamp::message::Message;

/// What a client does while its session is open.
pub trait Role {
    /// The session is open, with nothing in it.
    fn up(&mut self, end: &mut WampEnd, cx: &mut Cx<'_>);
    /// It is over, with everything in it.
    fn down(&mut self, cx: &mut Cx<'_>);
    fn message(&mut self, message: Message, end: &mut WampEnd, cx: &mut Cx<'_>);
    /// Time for something new, or for what was put off.
    fn act(&mut self, end: &mut WampEnd, cx: &mut Cx<'_>);
    /// What it still waits for beside answers.
    fn waits(&self) -> Option<String> {
        None
    }
    fn may_stall(&self) -> bool {
        false
    }
    /// About to say goodbye.
    fn leaves(&mut self, _link: LinkId, _cx: &mut Cx<'_>) {}
}

pub struct WampActor<R> {
    end: WampEnd,
    role: R,
    next_act: u64,
    gone: bool,
}

impl<R: Role> WampActor<R> {
    pub fn new(me: ActorId, role: R) -> WampActor<R> {
        WampActor {
            end: WampEnd::new(me),
            role,
            next_act: 0,
            gone: false,
        }
    }

    fn lost(&mut self, cx: &mut Cx<'_>) {
        self.role.down(cx);
        self.next_act = cx.now + cx.dice.range(5, 1_500);
        self.gone = cx.phase == Phase::Leave;
    }

    fn hear(&mut self, cx: &mut Cx<'_>) -> bool {
        let mut progress = false;
        while let Some(heard) = self.end.hear(cx) {
            progress = true;
            match heard {
                Heard::Up => {
                    self.role.up(&mut self.end, cx);
                    self.next_act = cx.now;
                }
                Heard::Down => self.lost(cx),
                Heard::Message(message) => self.role.message(message, &mut self.end, cx),
            }
        }
        progress
    }

    fn goodbye(&mut self, cx: &mut Cx<'_>) {
        if let Some(link) = self.end.link {
            self.role.leaves(link, cx);
        }
        self.end.say_goodbye(cx);
        self.next_act = u64::MAX;
    }

    fn act(&mut self, cx: &mut Cx<'_>) {
        self.next_act = cx.now + cx.dice.range(10, 300);
        if cx.phase == Phase::Leave {
            self.goodbye(cx);
            return;
        }
        if cx.phase == Phase::Chaos {
            match cx.dice.range(0, 199) {
                0 | 1 => return self.goodbye(cx),
                2 | 3 => {
                    self.end.drop_link(cx);
                    return self.lost(cx);
                }
                _ => {}
            }
        }
        self.role.act(&mut self.end, cx);
    }
}

impl<R: Role> Actor for WampActor<R> {
    fn turn(&mut self, cx: &mut Cx<'_>) -> bool {
        let progress = self.hear(cx);
        if cx.now < self.next_act || self.gone {
            return progress;
        }
        if self.end.is_down() {
            if cx.phase == Phase::Leave {
                self.gone = true;
            } else {
                self.end.connect(cx);
                self.next_act = u64::MAX;
            }
        } else if self.end.is_open() {
            self.act(cx);
        } else {
            self.next_act = u64::MAX;
        }
        true
    }

    fn next(&self) -> Option<u64> {
        (self.next_act < u64::MAX && !self.gone).then_some(self.next_act)
    }

    fn link(&self) -> Option<LinkId> {
        self.end.link
    }

    fn may_stall(&self) -> bool {
        self.role.may_stall()
    }

    fn waits(&self, phase: Phase) -> Option<String> {
        let me = self.end.me;
        if phase == Phase::Leave {
            return (!self.gone).then(|| format!("actor {me} has not left"));
        }
        if !self.end.is_open() {
            return Some(format!("actor {me} has no session"));
        }
        let open = self.end.open_requests();
        if !open.is_empty() {
            return Some(format!("actor {me} waits for answers to {open:?}"));
        }
        self.role.waits()
    }
}
