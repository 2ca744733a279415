//! Messages that lie ready in the gate go to the transport in one run, without a piece of memory of their own each.

use super::Driver;
use crate::transport::Transport;
use router_core::model::Now;

impl<T: Transport + Unpin> Driver<T> {
    pub(super) fn collect_messages(&mut self, now: Now) {
        // What is said to a closing connection is thrown away one by one.
        if self.closing.is_some() {
            return;
        }
        let was_idle = self.transport.queued() == 0;
        let mut bytes = 0;
        let transport = &mut self.transport;
        self.gate.take_messages(&mut |message, is_text| {
            bytes += message.len();
            transport.send_message(message, is_text);
        });
        if bytes > 0 {
            self.note_output(now, was_idle, bytes);
        }
    }
}
